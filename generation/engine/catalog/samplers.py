"""The samplers on offer, by the names that users of diffusers and A1111 know. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler.

    `name` is the display name and what is stored; `scheduler` the diffusers scheduler class that
    defines it; `options` are config overrides of that class; `aliases` are matched without regard to
    case, spaces, dots, dashes and underscores; `max_steps` is the most it can take (LCM's 50 are those
    it was distilled on). `levels_of`: the class that lays out its noise levels, where `scheduler` itself
    needs a package that is not here.
    """

    name: str
    scheduler: str
    options: tuple[tuple[str, object], ...] = ()
    aliases: tuple[str, ...] = ()
    max_steps: int = 1000
    levels_of: str = ""


SAMPLERS = (
    Sampler("Euler", "EulerDiscreteScheduler", aliases=("k_euler", "EulerDiscreteScheduler")),
    Sampler(
        "Euler a",
        "EulerAncestralDiscreteScheduler",
        aliases=("k_euler_a", "k_euler_ancestral", "Euler Ancestral", "EulerAncestralDiscreteScheduler"),
    ),
    Sampler("DDIM", "DDIMScheduler", aliases=("DDIMScheduler",)),
    Sampler("PLMS", "PNDMScheduler", (("skip_prk_steps", True),), aliases=("PNDM", "PNDMScheduler", "LMS PLMS")),
    # Said outright, because a model's own schedule may ask for Karras spacing, another order or algorithm.
    Sampler(
        "DPM++ 2M",
        "DPMSolverMultistepScheduler",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", False)),
        aliases=("k_dpmpp_2m", "dpm++", "DPMSolverMultistepScheduler"),
    ),
    Sampler(
        "DPM++ 2M Karras",
        "DPMSolverMultistepScheduler",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        aliases=("k_dpmpp_2m_ka", "dpmpp_2m_karras"),
    ),
    Sampler(
        "DPM++ 2M SDE",
        "DPMSolverMultistepScheduler",
        (("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", False)),
        aliases=("k_dpmpp_2m_sde",),
    ),
    Sampler(
        "DPM++ 2M SDE Karras",
        "DPMSolverMultistepScheduler",
        (("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        aliases=("k_dpmpp_2m_sde_ka", "dpmpp_2m_sde_karras"),
    ),
    Sampler(
        "DPM++ SDE",
        "DPMSolverSDEScheduler",
        (("use_karras_sigmas", False), ("final_sigmas_type", "zero")),
        aliases=("k_dpmpp_sde", "DPMSolverSDEScheduler"),
        levels_of="EulerDiscreteScheduler",
    ),
    Sampler(
        "DPM++ SDE Karras",
        "DPMSolverSDEScheduler",
        (("use_karras_sigmas", True), ("final_sigmas_type", "zero")),
        aliases=("k_dpmpp_sde_ka", "dpmpp_sde_karras"),
        levels_of="EulerDiscreteScheduler",
    ),
    Sampler(
        "UniPC",
        "UniPCMultistepScheduler",
        (("solver_order", 2), ("predict_x0", True)),
        aliases=("uni_pc", "UniPCMultistepScheduler"),
    ),
    Sampler("Heun", "HeunDiscreteScheduler", aliases=("k_heun", "HeunDiscreteScheduler")),
    Sampler("LCM", "LCMScheduler", aliases=("LCMScheduler",), max_steps=50),
)


def _fold(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum() or c == "+")


_BY_NAME = {_fold(alias): sampler for sampler in SAMPLERS for alias in (sampler.name, *sampler.aliases)}


def find_sampler(name: str) -> Sampler | None:
    """The sampler of that name or alias, or None. `find_sampler("k_euler_a").name == "Euler a"`."""
    return _BY_NAME.get(_fold(name))
