// Between our enums and the schema's; both are numbered for ever.
#pragma once

#include <graph_generated.h>

#include "graph/graph.h"

namespace fluxion::io {

static_assert(static_cast<int>(schema::DType::MAX) + 1 == kDTypes &&
              static_cast<int>(schema::DType::f16) == static_cast<int>(DType::f16) &&
              static_cast<int>(schema::DType::f64) == static_cast<int>(DType::f64));
static_assert(static_cast<int>(schema::AttrKind::dims) == static_cast<int>(FieldKind::dims) &&
              static_cast<int>(schema::AttrKind::dtype) == static_cast<int>(FieldKind::dtype));
static_assert(static_cast<int>(schema::InputKind::constant) ==
              static_cast<int>(graph::InputKind::constant));

inline constexpr size_t kInlineConstant = 256;  // bytes; bigger ones are tensors of the file

}  // namespace fluxion::io
