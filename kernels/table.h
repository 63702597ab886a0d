/* Included last by each ISA's file: all ops, and the table XF_TABLE that exports them, beside the
 * kernels of 8- and 4-bit weights, which come from a file of their own (quant_*.c): CPUs of one ISA
 * differ in them. Everything else in such a file is static, so that no function compiled for one
 * ISA can be linked into another. */
#ifndef XF_TABLE_H
#define XF_TABLE_H

#include "kernels/op/widen.h"

#include "kernels/op/linear.h"

#include "kernels/op/attention.h"
#include "kernels/op/elementwise.h"

#define XF_TABLE(isa, quant_kernels)                                                               \
  {                                                                                                \
    .name = isa, .quant = quant_kernels, .linear_f32 = linear_f32, .linear_f16 = linear_f16,       \
    .linear_bf16 = linear_bf16, .linear_widened = linear_widened, .widen_f16 = widen_f16,          \
    .widen_bf16 = widen_bf16, .widen_i8 = widen_i8, .widen_i8_panel = widen_i8_panel, .add = add,  \
    .rms_norm = rms_norm, .rope_angles = rope_angles, .rope = rope, .silu_mul = silu_mul,          \
    .arg_max = arg_max, .softmax = softmax, .pack_panel = pack_panel,                              \
    .attention_block = attention_block, .attention_merge = attention_merge,                        \
    .attention_finish = attention_finish, .log_sum_exp = log_sum_exp,                              \
  }

#endif
