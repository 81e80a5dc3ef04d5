"""What training asks: objectives with parts of their own, finite losses, gradients everywhere."""

import math
from typing import Any

from genloom.generator import Likelihood
from genloom.objective import Loss, Objective
from genloom.testing.case import BATCH, SEED, Case
from genloom.testing.rules import Broken, Doubtful, Rule, listed, rule


@rule(
    "objectives",
    "each objective trains a part of its own: children that exist, weights that no other one trains",
    "name children of the module in Objective(name, loss, trains)",
    needs=("build",),
)
def objectives(case: Case) -> str:
    """Parts exist and do not overlap."""
    found: list[Any] = list(case.trainable.objectives())
    if not found or not all(isinstance(item, Objective) for item in found):
        raise Broken(
            f"objectives() returned {found!r}", "return a list of one or more genloom.Objective"
        )
    model, owner = case.build(), dict[int, str]()
    for objective in found:
        try:
            parameters = case.objective_parameters(model, objective)
        except AttributeError:
            known = listed(name for name, _ in model.named_children())
            raise Broken(
                f"{objective.name!r} trains {listed(objective.parts)}; the model has {known}"
            ) from None
        if not parameters:
            raise Broken(f"{objective.name!r} trains no weight")
        for name, parameter in parameters.items():
            if owner.setdefault(id(parameter), objective.name) != objective.name:
                raise Broken(f"{owner[id(parameter)]!r} and {objective.name!r} both train {name}")
    if len({objective.name for objective in found}) < len(found):
        raise Broken("two objectives have one name", "give each objective a name of its own")
    idle = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in owner]
    if idle:
        raise Doubtful(
            f"no objective trains {listed(idle)}",
            "name it in an objective, or requires_grad_(False) it",
        )
    return listed(objective.name for objective in found)


@rule(
    "loss",
    "a loss is genloom.Loss(value, metrics): a finite scalar with gradient, finite scalars beside it; "
    "gradients and optimizers it leaves to the platform",
    "return Loss(value.mean(), {…}) and call no backward()",
    needs=("objectives", "collate"),
)
def loss(case: Case) -> str:
    """One loss of each objective."""
    seen: list[str] = []
    for objective in case.trainable.objectives():
        model = case.build().train()
        with case.seeded(SEED):
            cost: Any = objective.loss(model, case.batch())
        if not isinstance(cost, Loss):
            raise Broken(
                f"{objective.name!r} returned {type(cost).__name__}",
                "return genloom.Loss(value, metrics)",
            )
        scalars: dict[str, Any] = {objective.name: cost.value, **cost.metrics}
        for name, value in scalars.items():
            if math.prod(getattr(value, "shape", ())) != 1:
                raise Broken(f"{name!r} has shape {list(value.shape)}", "return its mean")
            number = float(getattr(value, "detach", lambda value=value: value)())
            if not math.isfinite(number):
                raise Broken(f"{name!r} is {number}", "keep logarithms and divisions away from 0")
        if not getattr(cost.value, "requires_grad", False):
            raise Broken(
                f"{objective.name!r} has no gradient",
                "compute it from the model, without detach or no_grad",
            )
        if any(parameter.grad is not None for parameter in model.parameters()):
            raise Broken(f"{objective.name!r} left gradients in the model")
        seen.append(f"{objective.name} {cost.value.item():.4g}")
    return ", ".join(seen)


@rule(
    "gradients",
    "every weight that an objective trains receives a gradient from its loss",
    "use the layer in the loss, take detach() off its way, or requires_grad_(False) it",
    needs=("loss",),
)
def gradients(case: Case) -> str:
    """Each objective alone, the other parts frozen as the platform freezes them."""
    count = 0
    for objective in case.trainable.objectives():
        model = case.build().train()
        trained = case.objective_parameters(model, objective)
        model.requires_grad_(False)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        with case.seeded(SEED):
            objective.loss(model, case.batch()).value.backward()
        without = [name for name, parameter in trained.items() if parameter.grad is None]
        if without:
            raise Broken(f"{objective.name!r} gives no gradient to {listed(without)}")
        wrong = [
            name for name, parameter in trained.items() if not bool(parameter.grad.isfinite().all())
        ]
        if wrong:
            raise Broken(f"{objective.name!r} gives gradients that are not finite to {listed(wrong)}")
        count += len(trained)
    return f"{count} tensors"


@rule(
    "likelihood",
    "likelihood(model, batch) is None, or nats and units of each example",
    "return Likelihood(nats, units), both of shape [batch]: nats finite, units above 0",
    needs=("loss",),
)
def likelihood(case: Case) -> str:
    """Shapes and values."""
    with case.torch.no_grad(), case.seeded(SEED):
        found: Any = case.trainable.likelihood(case.model, case.batch())
    if found is None:
        return "none given"
    if not isinstance(found, Likelihood):
        raise Broken(f"it is {type(found).__name__}")
    for name, value in (("nats", found.nats), ("units", found.units)):
        if list(value.shape) != [BATCH]:
            raise Broken(f"{name} of {BATCH} examples has shape {list(value.shape)}")
    if not bool(found.nats.isfinite().all()) or not bool((found.units > 0).all()):
        raise Broken("nats are not finite, or units not above 0")
    return f"{float((found.nats / found.units).mean()):.3g} nats a unit"


@rule(
    "optional columns",
    "a column that Data gives a default may be absent from the dataset",
    "treat data.COLUMN as None in build, and the row as without it in prepare",
    needs=("loss",),
)
def optional_columns(case: Case) -> str:
    """Build, prepare and cost of rows without them."""
    optional = [name for name, field in case.cls.Data.model_fields.items() if not field.is_required()]
    present = [name for name in optional if getattr(case.data, name) is not None]
    if not present:
        return "none"
    rows = [{name: value for name, value in row.items() if name not in present} for row in case.rows]
    bare = Case(case.cls, case.trainable, rows, case.data.model_copy(update=dict.fromkeys(present)))
    for objective in bare.trainable.objectives():
        with case.seeded(SEED):
            value = objective.loss(bare.build().train(), bare.batch()).value.item()
        if not math.isfinite(value):
            raise Broken(f"without {listed(present)}, {objective.name!r} is {value}")
    return listed(present)


RULES: tuple[Rule, ...] = (objectives, loss, gradients, likelihood, optional_columns)
