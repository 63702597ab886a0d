/* Whether the runtime's structures lie as abi.h says. */
#ifndef XF_LITERT_LAYOUT_H
#define XF_LITERT_LAYOUT_H

#include "exactflash/status.h"
#include "litert/abi.h"

/* Each is called before the first use of what it checks; XF_E_UNSUPPORTED with a message that says
 * what is not as it should be. */
xf_status xf_litert_check_context(const TfLiteContext *context, xf_error *error);
/* The node's and the registration's fields, and the tensors that the node names. */
xf_status xf_litert_check_node(const TfLiteContext *context, const TfLiteNode *node,
                               const TfLiteRegistration *registration, xf_error *error);

#endif
