"""Runner for multi-scale deformable attention alone."""

from __future__ import annotations

import torch
from golden import Case

from smidgen.nn.deformable_attention import DeformableAttention


def run_msdeform_attn(case: Case) -> None:
    config, inputs = case.config, case.inputs
    attention = DeformableAttention(
        config["embed_dim"], config["num_heads"], config["num_levels"], config["num_points"]
    )
    attention.load_state_dict(case.weights)
    shapes = [(int(rows), int(columns)) for rows, columns in config["spatial_shapes_hw"]]
    for size in (2, 4):
        query = inputs["query"].clone().requires_grad_()
        value = inputs["value"].clone().requires_grad_()
        reference = inputs[f"reference_points_{size}d"].clone().requires_grad_()
        attention.zero_grad()
        masked = attention(query, reference, value, shapes, inputs["key_padding_mask"])
        case.compare(f"out_ref{size}_mask", masked.detach())
        (masked * inputs["cotangent"]).sum().backward()
        found = {"query": query.grad, "value": value.grad, "ref": reference.grad} | {
            parameter.replace(".", "_"): tensor.grad for parameter, tensor in attention.named_parameters()
        }
        for name, gradient in found.items():
            if f"grad_{name}_ref{size}" in case.outputs:
                assert gradient is not None
                case.compare(f"grad_{name}_ref{size}", gradient)
        with torch.no_grad():
            case.compare(f"out_ref{size}_nomask", attention(inputs["query"], reference, inputs["value"], shapes, None))
    case.assert_all_compared()
