"""Trying something that may run out of device memory, so that a failed attempt leaves no tensors behind."""

import logging
import traceback
from collections.abc import Callable

from generation.engine.networks.loader import is_out_of_memory

log = logging.getLogger(__name__)


def fits_in_memory(action: Callable[[], object]) -> bool:
    """Do it. False when memory ran out; then nothing refers to the failed attempt any more. Other errors are raised."""
    try:
        action()
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("Out of memory: %s", str(error))
        # The frames hold the tensors that filled the memory.
        traceback.clear_frames(error.__traceback__)
        return False
