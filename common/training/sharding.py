"""Weights spread over processes (FSDP), and whole tensors to and from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """This process's share of a sharded tensor; any other one itself."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, for which all processes must ask together; any other one itself."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def like(tensor: Tensor, share: Tensor) -> Tensor:
    """`share` as this process's share of a tensor that is sharded as `tensor` is; itself where it is not."""
    if not isinstance(tensor, DTensor):
        return share
    return DTensor.from_local(
        share.to(tensor.device),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Copy the whole `value`, which every process has, into `target`."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        value = local(distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None))
    local(target).copy_(value)


def shard(root: nn.Module, processes: int, device: torch.device) -> None:
    """Spread the weights of `root` over the processes, in place, the repeated blocks of it one by one.

    Weights are gathered in fp32 and cast by autocast: the shards compute what the whole would.

    Args:
        root: its forward pass is the only way in.
        processes: of the process group.
        device: of the weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    for block in _blocks(root):
        fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of the outermost module lists: the layers of every transformer here."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(p.requires_grad for p in block.parameters()))
        else:
            yield from _blocks(child)


def synchronise(root: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass through a sharded `root` averages gradients over the processes."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(wanted)


@contextmanager
def gathered(root: nn.Module) -> Iterator[None]:
    """Within the block the parts of a sharded `root` can be called without going through its forward pass."""
    from torch.distributed.fsdp import FSDPModule

    sharded = [module for module in root.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
            module.set_reshard_after_forward(module is not root, recurse=False)


@torch.no_grad()
def unshard(root: nn.Module) -> None:
    """Undo `shard`: every process has whole, ordinary weights again."""
    from torch.distributed.fsdp import FSDPModule

    sharded = [module for module in root.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.reshard()
    for owner in root.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(owner, name, nn.Parameter(parameter.full_tensor(), requires_grad=parameter.requires_grad))
    for module in sharded:
        # torch offers no way back: the hooks go, and with them the class that it put in front.
        state = module._get_fsdp_state()
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()
        for group in state._fsdp_param_groups:
            for handle in group._module_to_pre_save_state_dict_hook_handle.values():
                handle.remove()
            for handle in group._module_to_pre_load_state_dict_hook_handle.values():
                handle.remove()
        module.__class__ = type(module).__mro__[2]
