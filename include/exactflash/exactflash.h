/* exactflash: flash attention and Llama inference on CPUs with the same bits everywhere. */
#ifndef EXACTFLASH_H
#define EXACTFLASH_H

#include "exactflash/attention.h"
#include "exactflash/boundary.h"
#include "exactflash/chat.h"
#include "exactflash/context.h"
#include "exactflash/convert.h"
#include "exactflash/generate.h"
#include "exactflash/kv_cache.h"
#include "exactflash/linear.h"
#include "exactflash/model.h"
#include "exactflash/ops.h"
#include "exactflash/status.h"
#include "exactflash/tensor.h"
#include "exactflash/tokenizer.h"

#endif
