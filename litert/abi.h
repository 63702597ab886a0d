/* The C interface between LiteRT (TensorFlow Lite) and a delegate, as its public documentation
 * describes it: names and layouts are LiteRT's, for versions 2.11 of TensorFlow to 2.3 of LiteRT on
 * 64-bit machines. Only what this delegate uses is typed in full. A runtime that is laid out
 * otherwise is refused by xf_litert_check_context and xf_litert_check_node (layout.c). */
#ifndef XF_LITERT_ABI_H
#define XF_LITERT_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;

enum { kTfLiteFloat32 = 1, kTfLiteTypes = 32 };           /* TfLiteType */
enum { kTfLiteDynamic = 4, kTfLiteAllocationTypes = 16 }; /* TfLiteAllocationType */
enum { kTfLiteBuiltinStablehloComposite = 206 };          /* TfLiteBuiltinOperator */
enum { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };     /* TfLiteDelegateFlags */
enum { kTfLiteOptionalTensor = -1, kTfLiteMaxDimensions = 8 };

typedef struct TfLiteIntArray {
  int size;
  int data[];
} TfLiteIntArray;

typedef struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;

typedef struct TfLiteQuantization {
  int type;
  void *params;
} TfLiteQuantization;

typedef struct TfLiteDelegate TfLiteDelegate;
typedef struct TfLiteContext TfLiteContext;

typedef struct TfLiteTensor {
  int type;
  void *data;
  TfLiteIntArray *dims;
  TfLiteQuantizationParams params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  TfLiteDelegate *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  TfLiteQuantization quantization;
  void *sparsity;
  const TfLiteIntArray *dims_signature;
} TfLiteTensor;

typedef struct TfLiteNode {
  TfLiteIntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data;    /* what init returned */
  void *builtin_data; /* of a composite: TfLiteStablehloCompositeParams */
  const void *custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate *delegate;
  bool might_have_side_effect;
} TfLiteNode;

typedef struct TfLiteStablehloCompositeParams {
  const char *name;
  int32_t subgraph_index;
  const uint8_t *attributes; /* a FlexBuffers map */
  size_t attributes_size;
} TfLiteStablehloCompositeParams; /* more behind it in some versions */

typedef struct TfLiteRegistration {
  void *(*init)(TfLiteContext *context, const char *buffer, size_t length);
  void (*free)(TfLiteContext *context, void *buffer);
  TfLiteStatus (*prepare)(TfLiteContext *context, TfLiteNode *node);
  TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
  const char *(*profiling_string)(const TfLiteContext *context, const TfLiteNode *node);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
} TfLiteRegistration;

/* What init of a delegate's kernel is handed as its buffer. */
typedef struct TfLiteDelegateParams {
  TfLiteDelegate *delegate;
  TfLiteIntArray *nodes_to_replace, *input_tensors, *output_tensors;
} TfLiteDelegateParams;

/* The first fields of TfLiteContext; the ones behind them are not used. */
struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext *context, TfLiteIntArray **plan);
  TfLiteTensor *tensors;
  void *impl_;
  TfLiteStatus (*ResizeTensor)(TfLiteContext *context, TfLiteTensor *tensor, TfLiteIntArray *size);
  void (*ReportError)(TfLiteContext *context, const char *format, ...);
  TfLiteStatus (*AddTensors)(TfLiteContext *context, int n, int *first);
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext *context, int index, TfLiteNode **node,
                                         TfLiteRegistration **registration);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *context,
                                                        TfLiteRegistration registration,
                                                        const TfLiteIntArray *nodes,
                                                        TfLiteDelegate *delegate);
  int recommended_num_threads;
  void *(*GetExternalContext)(TfLiteContext *context, int type);
  void (*SetExternalContext)(TfLiteContext *context, int type, void *external);
};

struct TfLiteDelegate {
  void *data_;
  TfLiteStatus (*Prepare)(TfLiteContext *context, TfLiteDelegate *delegate);
  TfLiteStatus (*CopyFromBufferHandle)(TfLiteContext *context, TfLiteDelegate *delegate,
                                       int buffer_handle, TfLiteTensor *tensor);
  TfLiteStatus (*CopyToBufferHandle)(TfLiteContext *context, TfLiteDelegate *delegate,
                                     int buffer_handle, TfLiteTensor *tensor);
  void (*FreeBufferHandle)(TfLiteContext *context, TfLiteDelegate *delegate, int *buffer_handle);
  int64_t flags;
  void *opaque_delegate_builder;
};

_Static_assert(sizeof(TfLiteTensor) == 112 && offsetof(TfLiteTensor, quantization) == 80 &&
                   sizeof(TfLiteNode) == 80 && sizeof(TfLiteRegistration) == 88 &&
                   offsetof(TfLiteContext, SetExternalContext) == 88 &&
                   sizeof(TfLiteDelegate) == 56,
               "the layout of LiteRT's structures on 64-bit machines");

#endif
