"""Prints tests/cpp/promotion_table.inc: torch.promote_types for every pair of our dtypes.

python tests/tools/record_promotion.py > tests/cpp/promotion_table.inc
"""

import torch

NAMES = "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64".split()
TORCH = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


def enumerator(dtype: torch.dtype) -> str:
    name = NAMES[TORCH.index(dtype)]
    return "bool_" if name == "bool" else name


version = torch.__version__.split("+")[0]
print(f"// torch {version}: promote_types(row, column). By tests/tools/record_promotion.py.")
print("// " + " ".join(NAMES))
for a in TORCH:
    print("{" + ", ".join("DType::" + enumerator(torch.promote_types(a, b)) for b in TORCH) + "},")
