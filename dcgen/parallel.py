"""What knows about processes: who is who, shares of a batch, what all agree on, and who speaks when a run fails.

One process needs none of it and imports nothing for it; several are started by torchrun or `accelerate launch`.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcgen.errors import DcgenError, MissingExtra

PATIENCE = timedelta(hours=6)  # how long processes wait for one that encodes latents by itself
FAULT = "dcgen/fault"
LAUNCHED = "start with torchrun or accelerate launch, or unset WORLD_SIZE"


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def part(rows: int) -> slice:
    """The rows of a batch that are this process's own. Raises DcgenError where they cannot be shared evenly."""
    if rows % size():
        fits = sorted({max(rows // size(), 1) * size(), (rows // size() + 1) * size()})
        choice = " or ".join(map(str, fits))
        raise DcgenError(f"--batch {rows}: does not divide among {size()} processes; choose {choice}")
    each = rows // size()
    return slice(rank() * each, (rank() + 1) * each)


def own_rows(rows: int, draw: Callable[[int], Tensor]) -> Tensor:
    """`rows` rows of what `draw` makes for the whole batch: a clip's numbers do not depend on who trains on it."""
    return draw(rows * size())[part(rows * size())]


def own_normal(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Normal numbers of a shape whose first axis is this process's part of the batch."""
    return own_rows(shape[0], lambda rows: torch.randn((rows, *shape[1:]), generator=generator))


@contextmanager
def processes(fsdp: bool = False) -> Iterator[None]:
    """Joins the processes that a launcher started, for as long as it is open; a fault is told by one of them.

    Raises MissingExtra without Accelerate, DcgenError where fsdp is asked for and nothing was launched,
    or where the environment says nothing that processes could be joined by.
    """
    many = _said("WORLD_SIZE", 1) if "WORLD_SIZE" in os.environ else 1
    if many == 1 and not fsdp:
        yield
        return
    if many == 1 and "RANK" not in os.environ:
        raise DcgenError("--fsdp shares a model among processes; start with torchrun or accelerate launch, see --help")
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise MissingExtra("accelerate", "train", "training in several processes") from error
    if _said("RANK", 0) >= many:  # the others would wait for hours for one that is none of them
        raise DcgenError(f"RANK={os.environ['RANK']}: is none of WORLD_SIZE={many} processes; {LAUNCHED}")
    if "MASTER_ADDR" not in os.environ:
        raise DcgenError(f"MASTER_ADDR is missing beside WORLD_SIZE={many}; {LAUNCHED}")
    _check_known(os.environ["MASTER_ADDR"], _said("MASTER_PORT", 1))
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)  # opens the group and sets the device
    with _one_voice():
        yield
        dist.barrier()
    dist.destroy_process_group()


def _said(name: str, least: int) -> int:
    """A number that a launcher says in the environment. Raises DcgenError."""
    text = os.environ.get(name)
    if text is None:
        raise DcgenError(f"{name} is missing, though the environment speaks of several processes; {LAUNCHED}")
    if not (text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise DcgenError(f"{name}={text}: is no whole number from {least} on; {LAUNCHED}")
    return int(text)


def _check_known(host: str, port: int) -> None:
    """Raises DcgenError where no machine has that name: joining would try it again for hours."""
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise DcgenError(f"MASTER_ADDR={host}: no machine is known by that name; {LAUNCHED}") from error


@contextmanager
def _one_voice() -> Iterator[None]:
    """The first process that fails tells why. What that brings upon the others is not worth a line: they leave."""
    try:
        yield
    except Exception as fault:
        if not _speaks_first():
            raise SystemExit(0) from None  # the launcher reports the one that spoke
        if isinstance(fault, getattr(dist, "DistError", ())) or "gloo" in str(fault).lower():
            raise DcgenError(
                f"another process of this run was lost ({_line(fault)}); start it again to resume"
            ) from fault
        raise


def _line(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0][:200] if str(fault).strip() else type(fault).__name__


def _speaks_first() -> bool:
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.compare_set(FAULT, "", str(rank())) == str(rank()).encode())
    except Exception:  # the store went with the process that failed, and spoke
        return False


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does it while the others wait, then they find it done."""
    if not first():
        dist.barrier()
    yield
    if first() and size() > 1:
        dist.barrier()


def wait() -> None:
    """Until every process has come here."""
    if size() > 1:
        dist.barrier()


def agree(terms: dict[str, float], wishes: dict[str, bool]) -> tuple[dict[str, float], dict[str, bool]]:
    """Means of what each process measured, and what any of them wishes; all processes get the same.

    A term that is not finite is left out of its mean, since a part of a batch may hold nothing of it; but not the
    loss and the gradients' norm, for which a single fault is one too many.
    """
    if size() == 1:
        return terms, wishes
    table = _gather([terms[name] for name in sorted(terms)] + [float(wish) for wish in wishes.values()])
    means = {}
    for column, name in enumerate(sorted(terms)):
        values = [row[column] for row in table]
        finite = values if name in ("loss", "norm") else [value for value in values if math.isfinite(value)]
        means[name] = sum(finite) / len(finite) if finite else math.nan
    wished = [any(row[len(terms) + k] for row in table) for k in range(len(wishes))]
    return {name: means[name] for name in terms}, dict(zip(wishes, wished, strict=True))


def _gather(values: list[float]) -> list[list[float]]:
    """The numbers of every process, in the order of their ranks."""
    device = "cuda" if dist.get_backend().endswith("nccl") else "cpu"
    mine = torch.tensor(values, dtype=torch.float64, device=device)
    table = [torch.empty_like(mine) for _ in range(size())]
    dist.all_gather(table, mine)
    return torch.stack(table).tolist()


def wrap(module: nn.Module, fsdp: bool, sharded: Callable[[nn.Module], bool]) -> nn.Module:
    """A module whose gradients are means over the processes: whole on each (DDP), or shared among them (FSDP).

    Its forward must be all there is of a step. fsdp shards in place, in units of the submodules that `sharded` names.
    """
    if fsdp:
        return _shard(module, sharded)
    if size() == 1:
        return module
    from accelerate import Accelerator

    wrapped: nn.Module = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no").prepare_model(module)
    return wrapped


def _shard(module: nn.Module, sharded: Callable[[nn.Module], bool]) -> nn.Module:
    # By torch itself, as Accelerate does it on GPUs alone: so that processes on CPUs are the same code, and tested.
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise DcgenError(f"--fsdp needs torch 2.6, this is {torch.__version__}; leave --fsdp out") from error
    if not dist.is_initialized():
        raise DcgenError("--fsdp shares a model among processes; start with torchrun or accelerate launch, see --help")
    mesh = init_device_mesh(next(module.parameters()).device.type, (size(),))
    for each in [submodule for submodule in module.modules() if sharded(submodule)]:
        fully_shard(each, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def unsynchronised(module: Any) -> AbstractContextManager[Any]:
    """In it, backward adds up gradients and sends none: for all but the last batch of an accumulated step."""
    if hasattr(module, "set_requires_gradient_sync"):
        return _unsharded(module)
    quiet: AbstractContextManager[Any] = module.no_sync() if hasattr(module, "no_sync") else nullcontext()
    return quiet


@contextmanager
def _unsharded(module: Any) -> Iterator[None]:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, but for FSDP's."""
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; FSDP's is gathered, by all processes together."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def as_sharded(full: Tensor, like: Any) -> Tensor:
    """A whole tensor on the device of another one, and shared among the processes as that is."""
    full = full.to(like.device)
    if not hasattr(like, "placements"):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements)
