/* Is the answer the right one? A ModelInferResponse is read just far enough to tell. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the gRPC message in `frame` carries one output with these `count` FP32 values, raw or
 * typed, each within a thousandth: batches of another size add in another order. */
bool answer_is_right(const unsigned char *frame, size_t size, const float *expected, size_t count);

#endif
