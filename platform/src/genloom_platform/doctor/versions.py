"""Whether all machines run the same: the cluster's head is right."""

from collections.abc import Mapping, Sequence

from genloom_platform.doctor.findings import Finding, Seen


def compare(seen: Sequence[Seen]) -> list[Finding]:
    """Findings about the versions of a cluster's machines, its head first."""
    head = seen[0]
    found = [_differ(head, each.where, each.versions) for each in seen[1:]]
    wrong = [each for each in found if each]
    apart = {each.where for each in wrong}
    alike = ", ".join(each.where for each in seen if each.where not in apart)
    shown = ", ".join(f"{name} {number}" for name, number in head.versions.items())
    first = Finding(check="versions", where=alike, well=True, seen=shown)
    return [first, *wrong, *_compare_gpus(seen)]


def compare_laptop(head: Seen, laptop: Seen) -> Finding:
    """Whether what a laptop has is the same on the cluster.

    It needs no engines and no plugins, and of Python the same as wheels are made for (3.11, not 3.11.9).
    """
    both = {name: number for name, number in head.versions.items() if name in laptop.versions}
    right, own = (
        {name: _coarse(name, each.versions[name]) for name in both} for each in (head, laptop)
    )
    wrong = _differ(head.model_copy(update={"versions": right}), laptop.where, own)
    shown = ", ".join(f"{name} {number}" for name, number in own.items())
    return wrong or Finding(
        check="versions", where=laptop.where, well=True, seen=f"as on {head.where}: {shown}"
    )


def _compare_gpus(seen: Sequence[Seen]) -> list[Finding]:
    """CUDA and NCCL must be the same on all machines that have GPUs: others than NCCL's own cannot talk to it."""
    having = [each for each in seen if each.gpu_versions]
    found: list[Finding] = []
    for each in having[1:]:
        first = having[0]
        told = "; ".join(
            f"{name} {each.gpu_versions.get(name, 'none')}, and {first.where} has {number}"
            for name, number in first.gpu_versions.items()
            if each.gpu_versions.get(name) != number
        )
        if told:
            remedy = "install the same build of torch on both: it brings CUDA and NCCL"
            found.append(
                Finding(check="versions", where=each.where, well=False, seen=told, remedy=remedy)
            )
    return found


def _differ(head: Seen, where: str, versions: Mapping[str, str]) -> Finding | None:
    """What differs between the head, which is right, and another machine."""
    at, right = head.where, head.versions
    names = sorted(
        name for name in {*right, *versions} if _public(right.get(name)) != _public(versions.get(name))
    )
    if not names:
        return None
    seen = "; ".join(
        f"{name} {versions.get(name, 'none')}, and {at} has {right.get(name, 'none')}" for name in names
    )
    wanted = [
        f"'{name}=={_public(right[name])}'" for name in names if name in right and name != "python"
    ]
    remedies = [f"pip install {' '.join(wanted)} on {where}"] if wanted else []
    remedies += [f"give {where} Python {right['python']}"] if "python" in names else []
    if extra := [name for name in names if name not in right]:
        remedies.append(f"pip uninstall {' '.join(extra)} on {where}, or install it on {at} too")
    return Finding(check="versions", where=where, well=False, seen=seen, remedy="; ".join(remedies))


def _public(number: str | None) -> str | None:
    """A version without its build: torch is 2.13.0+cpu on a head without GPUs, 2.13.0+cu130 on its workers."""
    return number.partition("+")[0] if number else number


def _coarse(name: str, number: str) -> str:
    return ".".join(number.split(".")[:2]) if name == "python" else number
