#include "loops/llvm/lower.h"

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/Module.h>

#include <algorithm>
#include <numeric>

namespace fluxion::loops {
namespace {

using llvm::ConstantInt;
using llvm::Intrinsic::ID;
using V = llvm::Value*;

/// Lowers nodes in order. A vector mask is held as integers, all ones or zero, as wide as what was
/// compared, because vectors of i1 that live across blocks or logic are legalised badly.
class Lowering {
 public:
  Lowering(const Function& f, llvm::Module& m)
      : f_(f),
        module_(m),
        context_(m.getContext()),
        ir_(context_),
        leaves_(context_),
        values_(f.nodes.size()) {}

  void run() {
    llvm::Type* pointer = ir_.getPtrTy();
    auto* type = llvm::FunctionType::get(ir_.getInt32Ty(), {pointer, pointer, pointer}, false);
    function_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, f_.name, module_);
    function_->addFnAttr(llvm::Attribute::NoUnwind);
    if (f_.wide) {
      function_->addFnAttr("target-cpu", "x86-64-v4");
      function_->addFnAttr("prefer-vector-width", "512");
    }
    auto* entry = block("entry");
    auto* start = block("start");
    leaves_.SetInsertPoint(entry);
    ir_.SetInsertPoint(start);
    arguments_.resize(f_.args.size());
    for (at_ = 0; at_ < static_cast<int32_t>(f_.nodes.size()); ++at_)
      values_[at_] = lower(f_.nodes[at_]);
    leaves_.CreateBr(start);
    ir_.CreateRet(ir_.getInt32(0));
  }

 private:
  struct Loop {
    int32_t node;
    llvm::BasicBlock *before, *body, *after;
    llvm::PHINode* index;
  };

  llvm::BasicBlock* block(const char* name) {
    return llvm::BasicBlock::Create(context_, name, function_);
  }

  // --- types ---

  llvm::Type* scalar(Elem e) {
    switch (e) {
      case Elem::bool_: return ir_.getInt1Ty();
      case Elem::u8:
      case Elem::i8: return ir_.getInt8Ty();
      case Elem::i16:
      case Elem::f16:
      case Elem::bf16: return ir_.getInt16Ty();
      case Elem::i32: return ir_.getInt32Ty();
      case Elem::i64: return ir_.getInt64Ty();
      case Elem::f32: return ir_.getFloatTy();
      case Elem::f64: return ir_.getDoubleTy();
    }
    return nullptr;
  }
  llvm::Type* wide(llvm::Type* t, int lanes) {
    return lanes == 1 ? t : llvm::FixedVectorType::get(t, lanes);
  }
  llvm::Type* type(Type t) { return wide(scalar(t.elem), t.lanes); }
  static int lanes(V v) {
    auto* t = llvm::dyn_cast<llvm::FixedVectorType>(v->getType());
    return t ? static_cast<int>(t->getNumElements()) : 1;
  }
  const Node& node(int32_t id) const { return f_.nodes[id]; }
  Type type_of(int32_t id) const { return node(id).type; }
  V a(const Node& n) { return values_[n.a]; }
  V b(const Node& n) { return values_[n.b]; }
  V c(const Node& n) { return values_[n.c]; }

  // --- masks ---

  static int mask_bits(Type t) { return std::clamp(256 / t.lanes, 8, 64); }

  /// i1 lanes to the held form.
  V hold(V i1, int bits) {
    return lanes(i1) == 1 ? i1 : ir_.CreateSExt(i1, wide(ir_.getIntNTy(bits), lanes(i1)));
  }
  V resize(V mask, int bits) {
    return ir_.CreateSExtOrTrunc(mask, wide(ir_.getIntNTy(bits), lanes(mask)));
  }
  /// The held form as i1 lanes, by way of `bits` wide lanes, whose sign bits a blend takes as they
  /// are.
  V condition(V mask, int bits) {
    if (lanes(mask) == 1) return mask;
    V m = resize(mask, bits);
    return ir_.CreateICmpSLT(m, llvm::Constant::getNullValue(m->getType()));
  }
  static int bits_of(Elem e) { return std::max<int>(8, 8 * elem_size(e)); }

  V active_lanes(V count, int n) {
    count = ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, count, ir_.getInt64(n));
    count = ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, count, ir_.getInt64(0));
    V limit = ir_.CreateVectorSplat(n, ir_.CreateTrunc(count, ir_.getInt32Ty()));
    return ir_.CreateICmpSLT(iota(Elem::i32, n), limit);
  }

  // --- leaves: loads of arguments, placed in the entry block ---

  V invariant(llvm::Type* t, V base, int64_t offset) {
    auto* load = leaves_.CreateAlignedLoad(
        t, leaves_.CreateConstGEP1_64(leaves_.getInt8Ty(), base, offset), llvm::Align(8));
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return load;
  }
  V buffer_field(int64_t arg, size_t field) {
    return invariant(ir_.getPtrTy(), function_->getArg(0),
                     arg * static_cast<int64_t>(sizeof(kernels::Buf)) + field);
  }
  V address(int64_t arg, V index) {
    if (!arguments_[arg]) arguments_[arg] = buffer_field(arg, offsetof(kernels::Buf, data));
    return ir_.CreateGEP(memory_type(f_.args[arg], 1), arguments_[arg], index);
  }

  // --- nodes ---

  V lower(const Node& n) {
    switch (n.kind) {
      case Kind::constant: return constant(n);
      case Kind::iota: return iota(n.type.elem, n.type.lanes);
      case Kind::size: return invariant(ir_.getInt64Ty(), function_->getArg(1), 8 * n.imm);
      case Kind::param: return invariant(ir_.getDoubleTy(), function_->getArg(2), 8 * n.imm);
      case Kind::stride:
        return invariant(ir_.getInt64Ty(), buffer_field(n.sub, offsetof(kernels::Buf, strides)),
                         8 * n.imm);
      case Kind::loop: return open(n);
      case Kind::carried: return carried(n);
      case Kind::yield: return b(n);
      case Kind::end: return close();
      case Kind::load: return load(n);
      case Kind::store: return store(n);
      case Kind::unary: return unary(n);
      case Kind::binary: return binary(static_cast<Binary>(n.sub), n.type.elem, a(n), b(n));
      case Kind::fma:
        return ir_.CreateIntrinsic(llvm::Intrinsic::fma, {type(n.type)}, {a(n), b(n), c(n)});
      case Kind::compare: return compare(n);
      case Kind::select: return select(n);
      case Kind::cast: return cast(n);
      case Kind::bitcast: return ir_.CreateBitCast(a(n), type(n.type));
      case Kind::splat: return splat(n);
      case Kind::extract: return extract(n);
      case Kind::reduce: return reduce(n);
    }
    return nullptr;
  }

  V constant(const Node& n) {
    const int count = n.type.lanes;
    if (n.type.elem == Elem::bool_) {
      llvm::Type* t = count == 1 ? ir_.getInt1Ty() : ir_.getIntNTy(mask_bits(n.type));
      return ConstantInt::get(wide(t, count), n.imm ? -1 : 0, true);
    }
    if (!is_float(n.type.elem)) return ConstantInt::get(type(n.type), n.imm, true);
    const bool single = n.type.elem == Elem::f32;
    llvm::APInt bits(single ? 32 : 64,
                     static_cast<uint64_t>(n.imm) & (single ? 0xffffffffu : ~uint64_t{0}));
    return llvm::ConstantFP::get(type(n.type),
                                 llvm::APFloat(scalar(n.type.elem)->getFltSemantics(), bits));
  }

  V iota(Elem e, int count) {
    std::vector<llvm::Constant*> lanes;
    for (int l = 0; l < count; ++l) lanes.push_back(ConstantInt::get(scalar(e), l));
    return count == 1 ? lanes[0] : llvm::ConstantVector::get(lanes);
  }

  /// Loops are rotated: a guard, then a body that tests at its end.
  V open(const Node& n) {
    Loop loop{at_, ir_.GetInsertBlock(), block("body"), block("after"), nullptr};
    ir_.CreateCondBr(ir_.CreateICmpSLT(a(n), b(n)), loop.body, loop.after);
    ir_.SetInsertPoint(loop.body);
    loop.index = ir_.CreatePHI(ir_.getInt64Ty(), 2);
    loop.index->addIncoming(a(n), loop.before);
    loops_.push_back(loop);
    return loop.index;
  }

  V carried(const Node& n) {
    auto* phi = ir_.CreatePHI(a(n)->getType(), 2);
    phi->addIncoming(a(n), loops_.back().before);
    return phi;
  }

  V close() {
    const Loop loop = loops_.back();
    loops_.pop_back();
    auto* last = ir_.GetInsertBlock();
    V next = ir_.CreateNSWAdd(loop.index, values_[node(loop.node).c]);
    loop.index->addIncoming(next, last);
    ir_.CreateCondBr(ir_.CreateICmpSLT(next, values_[node(loop.node).b]), loop.body, loop.after);
    ir_.SetInsertPoint(loop.after);
    int32_t first = at_;
    while (node(first - 1).kind == Kind::yield) --first;
    for (int32_t i = first; i < at_; ++i) finish_yield(i, loop, last);
    return nullptr;
  }

  void finish_yield(int32_t yield, const Loop& loop, llvm::BasicBlock* last) {
    const Node& carried = node(node(yield).a);
    V initial = values_[carried.a];
    V next = values_[yield];
    if (carried.type.elem == Elem::bool_ && carried.type.lanes > 1) {
      llvm::IRBuilder<> in_body(last->getTerminator());
      next = in_body.CreateSExtOrTrunc(next, initial->getType());
    }
    llvm::cast<llvm::PHINode>(values_[node(yield).a])->addIncoming(next, last);
    auto* phi = ir_.CreatePHI(initial->getType(), 2);
    phi->addIncoming(initial, loop.before);
    phi->addIncoming(next, last);
    values_[yield] = phi;
  }

  // --- memory ---

  llvm::Type* memory_type(Elem e, int count) {
    return wide(e == Elem::bool_ ? ir_.getInt8Ty() : scalar(e), count);
  }

  V load(const Node& n) {
    const Elem memory = f_.args[n.imm];
    const int count = n.type.lanes;
    llvm::Type* t = memory_type(memory, count);
    V from = address(n.imm, a(n));
    const llvm::Align align(elem_size(memory));
    if (n.b < 0) return widen(ir_.CreateAlignedLoad(t, from, align), memory, n.type);
    if (count == 1) return widen(guarded_scalar_load(t, from, b(n), align), memory, n.type);
    if (elem_size(memory) < 4)
      return widen(ir_.CreateCall(partial_load(t), {from, b(n)}), memory, n.type);
    return widen(ir_.CreateMaskedLoad(t, from, align, active_lanes(b(n), count),
                                      llvm::Constant::getNullValue(t)),
                 memory, n.type);
  }

  V guarded_scalar_load(llvm::Type* t, V from, V active, llvm::Align align) {
    auto* before = ir_.GetInsertBlock();
    auto *then = block("load"), *join = block("loaded");
    ir_.CreateCondBr(ir_.CreateICmpSGT(active, ir_.getInt64(0)), then, join);
    ir_.SetInsertPoint(then);
    V v = ir_.CreateAlignedLoad(t, from, align);
    ir_.CreateBr(join);
    ir_.SetInsertPoint(join);
    auto* phi = ir_.CreatePHI(t, 2);
    phi->addIncoming(llvm::Constant::getNullValue(t), before);
    phi->addIncoming(v, then);
    return phi;
  }

  V widen(V v, Elem memory, Type to) {
    switch (memory) {
      case Elem::bool_:
        return hold(ir_.CreateICmpNE(v, llvm::Constant::getNullValue(v->getType())), mask_bits(to));
      case Elem::u8: return ir_.CreateZExt(v, type(to));
      case Elem::i8:
      case Elem::i16: return ir_.CreateSExt(v, type(to));
      case Elem::f16:
        return ir_.CreateFPExt(ir_.CreateBitCast(v, wide(ir_.getHalfTy(), to.lanes)), type(to));
      case Elem::bf16: {
        V bits = ir_.CreateShl(ir_.CreateZExt(v, wide(ir_.getInt32Ty(), to.lanes)), 16);
        return ir_.CreateBitCast(bits, type(to));
      }
      default: return v;
    }
  }

  V store(const Node& n) {
    const Elem memory = f_.args[n.imm];
    const int count = type_of(n.b).lanes;
    V v = narrow(b(n), memory, count);
    V to = address(n.imm, a(n));
    const llvm::Align align(elem_size(memory));
    if (n.c < 0) {
      ir_.CreateAlignedStore(v, to, align);
    } else if (count == 1) {
      guarded_scalar_store(v, to, c(n), align);
    } else if (elem_size(memory) < 4) {
      ir_.CreateCall(partial_store(v->getType()), {v, to, c(n)});
    } else {
      ir_.CreateMaskedStore(v, to, align, active_lanes(c(n), count));
    }
    return nullptr;
  }

  void guarded_scalar_store(V v, V to, V active, llvm::Align align) {
    auto *then = block("store"), *join = block("stored");
    ir_.CreateCondBr(ir_.CreateICmpSGT(active, ir_.getInt64(0)), then, join);
    ir_.SetInsertPoint(then);
    ir_.CreateAlignedStore(v, to, align);
    ir_.CreateBr(join);
    ir_.SetInsertPoint(join);
  }

  V narrow(V v, Elem memory, int count) {
    llvm::Type* t = memory_type(memory, count);
    switch (memory) {
      case Elem::bool_:
        return count == 1 ? ir_.CreateZExt(v, t)
                          : ir_.CreateAnd(resize(v, 8), ConstantInt::get(t, 1));
      case Elem::u8:
      case Elem::i8:
      case Elem::i16: return ir_.CreateTrunc(v, t);
      case Elem::f16:
        return ir_.CreateBitCast(ir_.CreateFPTrunc(v, wide(ir_.getHalfTy(), count)), t);
      case Elem::bf16: return round_to_bf16(v, count);
      default: return v;
    }
  }

  /// Round to nearest even on the bits; NaNs keep their upper payload and become quiet.
  V round_to_bf16(V v, int count) {
    llvm::Type* t = wide(ir_.getInt32Ty(), count);
    auto whole = [&](int k) { return ConstantInt::get(t, k); };
    V bits = ir_.CreateBitCast(v, t);
    V odd = ir_.CreateAnd(ir_.CreateLShr(bits, whole(16)), whole(1));
    V rounded = ir_.CreateAdd(bits, ir_.CreateAdd(odd, whole(0x7fff)));
    V quiet = ir_.CreateOr(bits, whole(0x400000));
    V result = ir_.CreateSelect(ir_.CreateFCmpUNO(v, v), quiet, rounded);
    return ir_.CreateTrunc(ir_.CreateLShr(result, whole(16)), wide(ir_.getInt16Ty(), count));
  }

  /// x86-v3 has no masked access to 1 and 2 byte lanes: these helpers, one copy a module, take the
  /// stack.
  llvm::Function* partial_load(llvm::Type* t) {
    auto* helper = helper_function("load_partial", t, {ir_.getPtrTy(), ir_.getInt64Ty()}, t);
    if (!helper->empty()) return helper;
    llvm::IRBuilder<> ir(llvm::BasicBlock::Create(context_, "", helper));
    auto* buffer = ir.CreateAlloca(t);
    ir.CreateStore(llvm::Constant::getNullValue(t), buffer);
    copy_elements(ir, t->getScalarType(), buffer, helper->getArg(0), helper->getArg(1),
                  lane_count(t));
    ir.CreateRet(ir.CreateLoad(t, buffer));
    return helper;
  }

  llvm::Function* partial_store(llvm::Type* t) {
    auto* helper =
        helper_function("store_partial", ir_.getVoidTy(), {t, ir_.getPtrTy(), ir_.getInt64Ty()}, t);
    if (!helper->empty()) return helper;
    llvm::IRBuilder<> ir(llvm::BasicBlock::Create(context_, "", helper));
    auto* buffer = ir.CreateAlloca(t);
    ir.CreateStore(helper->getArg(0), buffer);
    copy_elements(ir, t->getScalarType(), helper->getArg(1), buffer, helper->getArg(2),
                  lane_count(t));
    ir.CreateRetVoid();
    return helper;
  }

  static int lane_count(llvm::Type* t) {
    return static_cast<int>(llvm::cast<llvm::FixedVectorType>(t)->getNumElements());
  }

  llvm::Function* helper_function(std::string name, llvm::Type* result,
                                  std::vector<llvm::Type*> arguments, llvm::Type* t) {
    name += "_i" + std::to_string(t->getScalarSizeInBits()) + "x" + std::to_string(lane_count(t));
    if (auto* f = module_.getFunction(name)) return f;
    auto* f = llvm::Function::Create(llvm::FunctionType::get(result, arguments, false),
                                     llvm::Function::InternalLinkage, name, module_);
    f->addFnAttr(llvm::Attribute::NoUnwind);
    f->addFnAttr(llvm::Attribute::NoInline);
    return f;
  }

  void copy_elements(llvm::IRBuilder<>& ir, llvm::Type* t, V to, V from, V count, int most) {
    auto* before = ir.GetInsertBlock();
    auto* body = llvm::BasicBlock::Create(context_, "", before->getParent());
    auto* after = llvm::BasicBlock::Create(context_, "", before->getParent());
    count = ir.CreateBinaryIntrinsic(llvm::Intrinsic::smin, count, ir.getInt64(most));
    ir.CreateCondBr(ir.CreateICmpSGT(count, ir.getInt64(0)), body, after);
    ir.SetInsertPoint(body);
    auto* i = ir.CreatePHI(ir.getInt64Ty(), 2);
    i->addIncoming(ir.getInt64(0), before);
    ir.CreateStore(ir.CreateLoad(t, ir.CreateGEP(t, from, i)), ir.CreateGEP(t, to, i));
    V next = ir.CreateAdd(i, ir.getInt64(1));
    i->addIncoming(next, body);
    ir.CreateCondBr(ir.CreateICmpSLT(next, count), body, after);
    ir.SetInsertPoint(after);
  }

  // --- arithmetic ---

  V unary(const Node& n) {
    V v = a(n);
    const bool real = is_float(n.type.elem);
    auto intrinsic = [&](ID id) { return ir_.CreateUnaryIntrinsic(id, v); };
    switch (static_cast<Unary>(n.sub)) {
      case Unary::neg: return real ? ir_.CreateFNeg(v) : ir_.CreateNeg(v);
      case Unary::abs:
        return real ? intrinsic(llvm::Intrinsic::fabs)
                    : ir_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, v, ir_.getFalse());
      case Unary::sqrt: return intrinsic(llvm::Intrinsic::sqrt);
      case Unary::floor: return intrinsic(llvm::Intrinsic::floor);
      case Unary::ceil: return intrinsic(llvm::Intrinsic::ceil);
      case Unary::trunc: return intrinsic(llvm::Intrinsic::trunc);
      case Unary::round_even: return intrinsic(llvm::Intrinsic::roundeven);
      case Unary::bit_not: return ir_.CreateNot(v);
    }
    return nullptr;
  }

  V binary(Binary op, Elem elem, V x, V y) {
    if (elem == Elem::bool_ && lanes(x) > 1) {
      const unsigned bits =
          std::max(x->getType()->getScalarSizeInBits(), y->getType()->getScalarSizeInBits());
      x = resize(x, bits), y = resize(y, bits);
    }
    return is_float(elem) ? float_binary(op, x, y) : int_binary(op, x, y);
  }

  V float_binary(Binary op, V x, V y) {
    switch (op) {
      case Binary::add: return ir_.CreateFAdd(x, y);
      case Binary::sub: return ir_.CreateFSub(x, y);
      case Binary::mul: return ir_.CreateFMul(x, y);
      case Binary::div: return ir_.CreateFDiv(x, y);
      case Binary::rem: return ir_.CreateFRem(x, y);
      case Binary::min: return nan_first(x, ir_.CreateSelect(ir_.CreateFCmpOLT(x, y), x, y));
      case Binary::max: return nan_first(x, ir_.CreateSelect(ir_.CreateFCmpOGT(x, y), x, y));
      default: return nullptr;
    }
  }

  V nan_first(V x, V otherwise) { return ir_.CreateSelect(ir_.CreateFCmpUNO(x, x), x, otherwise); }

  V int_binary(Binary op, V x, V y) {
    auto count = [&] {
      return ir_.CreateAnd(y,
                           ConstantInt::get(y->getType(), y->getType()->getScalarSizeInBits() - 1));
    };
    switch (op) {
      case Binary::add: return ir_.CreateAdd(x, y);
      case Binary::sub: return ir_.CreateSub(x, y);
      case Binary::mul: return ir_.CreateMul(x, y);
      case Binary::div: return divide(x, y);
      case Binary::rem: return ir_.CreateSub(x, ir_.CreateMul(divide(x, y), y));
      case Binary::min: return ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y);
      case Binary::max: return ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, y);
      case Binary::bit_and: return ir_.CreateAnd(x, y);
      case Binary::bit_or: return ir_.CreateOr(x, y);
      case Binary::bit_xor: return ir_.CreateXor(x, y);
      case Binary::shl: return ir_.CreateShl(x, count());
      case Binary::shr: return ir_.CreateAShr(x, count());
      case Binary::shr_logical: return ir_.CreateLShr(x, count());
    }
    return nullptr;
  }

  /// Never traps: x / 0 is 0 and the smallest / -1 wraps, because both divide by 1 instead.
  /// Vectors of i32 divide as f64, exact after truncation; LLVM takes other vectors apart.
  V divide(V x, V y) {
    llvm::Type* t = x->getType();
    const unsigned bits = t->getScalarSizeInBits();
    V zero = ir_.CreateICmpEQ(y, llvm::Constant::getNullValue(t));
    V smallest = ConstantInt::get(t, llvm::APInt::getSignedMinValue(bits));
    V overflow = ir_.CreateAnd(ir_.CreateICmpEQ(x, smallest),
                               ir_.CreateICmpEQ(y, llvm::Constant::getAllOnesValue(t)));
    V divisor = ir_.CreateSelect(ir_.CreateOr(zero, overflow), ConstantInt::get(t, 1), y);
    V quotient;
    if (lanes(x) > 1 && bits == 32) {
      llvm::Type* real = wide(ir_.getDoubleTy(), lanes(x));
      quotient = ir_.CreateFPToSI(
          ir_.CreateFDiv(ir_.CreateSIToFP(x, real), ir_.CreateSIToFP(divisor, real)), t);
    } else {
      quotient = ir_.CreateSDiv(x, divisor);
    }
    return ir_.CreateSelect(zero, llvm::Constant::getNullValue(t), quotient);
  }

  V compare(const Node& n) {
    const Elem elem = type_of(n.a).elem;
    V x = a(n), y = b(n);
    if (elem == Elem::bool_) {
      const unsigned bits =
          std::max(x->getType()->getScalarSizeInBits(), y->getType()->getScalarSizeInBits());
      if (lanes(x) > 1) x = resize(x, bits), y = resize(y, bits);
      V zero = llvm::Constant::getNullValue(
          x->getType());  // true is -1 in every form: order by the negated values
      x = ir_.CreateSub(zero, x), y = ir_.CreateSub(zero, y);
      if (lanes(x) == 1)
        x = ir_.CreateZExt(a(n), ir_.getInt8Ty()), y = ir_.CreateZExt(b(n), ir_.getInt8Ty());
      return hold(ir_.CreateICmp(predicate(n.sub, false), x, y), static_cast<int>(bits));
    }
    if (is_float(elem)) return hold(ir_.CreateFCmp(predicate(n.sub, true), x, y), bits_of(elem));
    return hold(ir_.CreateICmp(predicate(n.sub, false), x, y), bits_of(elem));
  }

  static llvm::CmpInst::Predicate predicate(uint8_t sub, bool real) {
    using P = llvm::CmpInst;
    constexpr llvm::CmpInst::Predicate reals[] = {P::FCMP_OEQ, P::FCMP_UNE, P::FCMP_OLT,
                                                  P::FCMP_OLE, P::FCMP_OGT, P::FCMP_OGE};
    constexpr llvm::CmpInst::Predicate wholes[] = {P::ICMP_EQ,  P::ICMP_NE,  P::ICMP_SLT,
                                                   P::ICMP_SLE, P::ICMP_SGT, P::ICMP_SGE};
    return real ? reals[sub] : wholes[sub];
  }

  V select(const Node& n) {
    V x = b(n), y = c(n);
    if (n.type.elem == Elem::bool_ && n.type.lanes > 1) {
      const unsigned bits =
          std::max(x->getType()->getScalarSizeInBits(), y->getType()->getScalarSizeInBits());
      x = resize(x, bits), y = resize(y, bits);
    }
    return ir_.CreateSelect(condition(a(n), x->getType()->getScalarSizeInBits()), x, y);
  }

  V cast(const Node& n) {
    const Elem from = type_of(n.a).elem, to = n.type.elem;
    llvm::Type* t = type(n.type);
    V v = a(n);
    if (from == Elem::bool_) {
      if (!is_float(to))
        return lanes(v) == 1 ? ir_.CreateZExt(v, t)
                             : ir_.CreateAnd(resize(v, bits_of(to)), ConstantInt::get(t, 1));
      return ir_.CreateSelect(condition(v, bits_of(to)), llvm::ConstantFP::get(t, 1.0),
                              llvm::ConstantFP::get(t, 0.0));
    }
    if (is_float(from)) return is_float(to) ? ir_.CreateFPCast(v, t) : truncate(v, t);
    return is_float(to) ? ir_.CreateSIToFP(v, t) : ir_.CreateSExtOrTrunc(v, t);
  }

  /// float to int; NaN and out of range give the smallest integer, as x86 does.
  V truncate(V v, llvm::Type* t) {
    const unsigned bits = t->getScalarSizeInBits();
    const double limit = bits == 32 ? 0x1p31 : 0x1p63;
    llvm::Type* real = v->getType();
    V fits = ir_.CreateAnd(ir_.CreateFCmpOGE(v, llvm::ConstantFP::get(real, -limit)),
                           ir_.CreateFCmpOLT(v, llvm::ConstantFP::get(real, limit)));
    V safe = ir_.CreateSelect(fits, v, llvm::Constant::getNullValue(real));
    return ir_.CreateSelect(fits, ir_.CreateFPToSI(safe, t),
                            ConstantInt::get(t, llvm::APInt::getSignedMinValue(bits)));
  }

  V splat(const Node& n) {
    V v = a(n);
    if (n.type.elem == Elem::bool_ && n.type.lanes > 1)
      v = ir_.CreateSExt(v, ir_.getIntNTy(mask_bits(n.type)));
    return n.type.lanes == 1 ? v : ir_.CreateVectorSplat(n.type.lanes, v);
  }

  V extract(const Node& n) {
    if (lanes(a(n)) == 1) return a(n);
    V lane = ir_.CreateExtractElement(a(n), static_cast<uint64_t>(n.imm));
    return n.type.elem == Elem::bool_ ? ir_.CreateTrunc(lane, ir_.getInt1Ty()) : lane;
  }

  V reduce(const Node& n) {
    V v = a(n);
    if (n.type.elem == Elem::bool_ && lanes(v) > 1) {
      V bits = condition(v, v->getType()->getScalarSizeInBits());
      return ir_.CreateICmpNE(ir_.CreateBitCast(bits, ir_.getIntNTy(lanes(v))),
                              ir_.getIntN(lanes(v), 0));
    }
    for (int half = lanes(v) / 2; half > 0; half /= 2) {
      std::vector<int> low(half), high(half);
      std::iota(low.begin(), low.end(), 0);
      std::iota(high.begin(), high.end(), half);
      V x = half > 1 ? ir_.CreateShuffleVector(v, low) : ir_.CreateExtractElement(v, uint64_t{0});
      V y = half > 1 ? ir_.CreateShuffleVector(v, high) : ir_.CreateExtractElement(v, uint64_t{1});
      v = binary(static_cast<Binary>(n.sub), n.type.elem, x, y);
    }
    return v;
  }

  const Function& f_;
  llvm::Module& module_;
  llvm::LLVMContext& context_;
  llvm::IRBuilder<> ir_, leaves_;
  std::vector<V> values_, arguments_;
  std::vector<Loop> loops_;
  llvm::Function* function_ = nullptr;
  int32_t at_ = 0;
};

}  // namespace

void lower(const Function& f, llvm::Module& m) { Lowering(f, m).run(); }

}  // namespace fluxion::loops
