"""How long answers take with and without an account. Not part of the suite, for it measures time:

python -m pytest tests/accounts/timing.py -n 0 -q -s
"""

import statistics
import time

import pytest
from django.core.cache import cache
from django.test import Client

from tests.conftest import PASSWORD

ROUNDS = 30
FORMS = {
    "sign-up": ("/accounts/signup/", lambda email: {"email": email, "password1": PASSWORD}),
    "sign-in": ("/accounts/login/", lambda email: {"login": email, "password": "wrong password"}),
    "new password": ("/accounts/password/reset/", lambda email: {"email": email}),
}


@pytest.mark.parametrize("verification", ["optional", "mandatory"])
@pytest.mark.parametrize("form", FORMS)
def test_known_and_unknown_addresses_take_as_long(make_user, settings, form, verification):
    settings.ACCOUNT_EMAIL_VERIFICATION = verification
    address, fields = FORMS[form]
    known = [make_user(f"known{number}@example.com").email for number in range(10)]
    seconds = {True: [], False: []}
    for number in range(-2, ROUNDS):
        for is_known in (True, False) if number % 2 else (False, True):
            email = known[number % 10] if is_known else f"unknown{number}@example.com"
            client = Client(REMOTE_ADDR=f"203.0.{number % 250}.{int(is_known) + 1}")
            cache.clear()
            began = time.perf_counter()
            answer = client.post(address, fields(email))
            if number >= 0:  # the first ones load what is loaded late
                seconds[is_known].append(time.perf_counter() - began)
            assert answer.status_code in (200, 302)
    # The lower quartile: what else runs on the machine only ever adds.
    with_account, without = (statistics.quantiles(seconds[is_known], n=4)[0] for is_known in (True, False))
    apart = abs(with_account - without) / without
    print(
        f"\n{form}, confirming is {verification}: {1000 * with_account:.1f} ms with an account,"
        f" {1000 * without:.1f} ms without, {apart:.1%} apart over {ROUNDS} tries each"
    )
    assert apart <= 0.05
