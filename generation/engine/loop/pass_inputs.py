"""Preparing the inputs of a job's passes: starting pictures, masks, control maps and reference pictures.

Pictures are loaded and resized by an executor, while the device draws for others; then the engine's thread encodes
them between two steps, once for all images of the job.
"""

from concurrent.futures import Executor, Future
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from generation.engine.networks.controlnet import ControlNetCondition, control_map
from generation.engine.networks.ip_adapter import ImagePromptTokens, center_crop
from generation.engine.networks.loader import LoadedModel
from generation.engine.networks.vae import Encoded, encode
from generation.engine.pictures.canvas import Canvas, lay_out
from generation.engine.request.fields import ImageRequest
from generation.engine.request.passes import PassSchedule

from .rows import PassInputs
from .unet_config import takes_mask


class RequestPictures:
    """The pictures of a request as the executor loads them and lays them out, which needs no model."""

    def __init__(self, request: ImageRequest, passes: tuple[PassSchedule, ...], executor: Executor):
        reference = request.reference
        self.canvases = [_lay_out(request, schedule, number, executor) for number, schedule in enumerate(passes)]
        """By pass; None where it begins with nothing but noise, or with what the pass before it drew."""
        self.reference: Future[Image.Image] | None = None
        if reference is not None:
            self.reference = executor.submit(lambda: center_crop(reference.image.load()))

    def canvas(self, number: int) -> Canvas | None:
        """What that pass draws over; waits for it. Raises what loading the picture raised."""
        future = self.canvases[number]
        return None if future is None else future.result()


class InputPreparation:
    """Makes the `PassInputs` of one job with its model, one pass at a time. Used by the engine's thread alone."""

    def __init__(
        self,
        model: LoadedModel,
        request: ImageRequest,
        passes: tuple[PassSchedule, ...],
        pictures: RequestPictures,
        executor: Executor,
    ):
        self._model = model
        self._request = request
        self._passes = passes
        self._pictures = pictures
        self._control_maps = [self._make_control_map(number, executor) for number in range(len(passes))]
        self._inputs = {number: PassInputs() for number in range(len(passes)) if self._is_plain(number)}

    def of_pass(self, number: int) -> PassInputs:
        """Must be ready, see `is_ready`."""
        return self._inputs[number]

    def is_ready(self, number: int) -> bool:
        return number in self._inputs

    @property
    def next_to_encode(self) -> int | None:
        """The first pass that is not ready and whose pictures are there."""
        for number in range(len(self._passes)):
            if number not in self._inputs and not any(map(_is_pending, self._futures(number))):
                return number
        return None

    @property
    def pending(self) -> list[Future]:
        """What the executor has yet to do."""
        futures = [future for number in range(len(self._passes)) for future in self._futures(number)]
        return [future for future in futures if future is not None and not future.done()]

    def encode(self, number: int) -> None:
        """Encode what that pass begins with. Raises what loading its pictures raised, and InvalidRequest for an
        add-on that cannot be used."""
        canvas = self._pictures.canvas(number)
        image = mask = masked_image = None
        if canvas is not None and not (takes_mask(self._model) and (number or not self._passes[0].begin)):
            image = self._encode(canvas.picture)
        if canvas is not None and canvas.mask is not None:
            mask = _in_latents(canvas.mask, self._model)
        if takes_mask(self._model):
            if canvas is not None and mask is not None:
                masked_image = self._encode(canvas.picture, canvas.mask)
            else:  # then it may change everything, and has nothing to keep to
                mask, masked_image = self._nothing_preserved(self._passes[number])
        self._inputs[number] = PassInputs(image, mask, masked_image, self._controlnet(number), self._image_prompt)

    def _futures(self, number: int) -> tuple[Future | None, ...]:
        return self._pictures.canvases[number], self._control_maps[number], self._pictures.reference

    def _is_plain(self, number: int) -> bool:
        """Whether the pass begins with nothing but noise or what the last one drew."""
        return not takes_mask(self._model) and not any(self._futures(number))

    def _make_control_map(self, number: int, executor: Executor) -> Future[Image.Image] | None:
        control, schedule = self._request.control, self._passes[number]
        if control is None:
            return None
        size = schedule.width, schedule.height
        return executor.submit(control_map, self._model.addons, control, size, self._pictures.canvases[number])

    def _controlnet(self, number: int) -> ControlNetCondition | None:
        control, control_map = self._request.control, self._control_maps[number]
        if control is None or control_map is None:
            return None
        return self._model.controlnets.condition(self._model, control, control_map.result())

    @cached_property
    def _image_prompt(self) -> ImagePromptTokens | None:
        """What all passes follow, encoded once."""
        reference, picture = self._request.reference, self._pictures.reference
        if reference is None or picture is None:
            return None
        return self._model.ip_adapters.encode(reference, picture.result())

    def _nothing_preserved(self, schedule: PassSchedule) -> tuple[torch.Tensor, Encoded]:
        scale = self._model.vae_scale
        mask = torch.ones(schedule.height // scale, schedule.width // scale, device=self._model.device)
        white = Image.new("L", (schedule.width, schedule.height), 255)
        return mask, self._encode(white, white)

    def _encode(self, picture: Image.Image, mask: Image.Image | None = None) -> Encoded:
        return encode(self._model, picture, mask, tiling=self._request.tiling)


def _lay_out(request: ImageRequest, schedule: PassSchedule, number: int, executor: Executor) -> Future[Canvas] | None:
    start = request.start
    if start is None or (number and not start.inpaints):
        return None
    return executor.submit(lay_out, start, (schedule.width, schedule.height))


def _is_pending(future: Future | None) -> bool:
    return future is not None and not future.done()


def _in_latents(mask: Image.Image, model: LoadedModel) -> torch.Tensor:
    """h x w of 0 and 1, as diffusers' pipelines shrink a mask: each latent looks at its first pixel."""
    scale = model.vae_scale
    return torch.from_numpy((np.asarray(mask)[::scale, ::scale] >= 128).astype(np.float32)).to(model.device)
