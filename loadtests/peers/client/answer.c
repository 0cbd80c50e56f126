#include "answer.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "pump.h"

/* Numbers of the fields in the Open Inference Protocol's grpc_predict_v2.proto. */
#define RESPONSE_OUTPUTS 5
#define RESPONSE_RAW_OUTPUT_CONTENTS 6
#define OUTPUT_CONTENTS 5
#define CONTENTS_FP32 6

#define WIRE_VARINT 0
#define WIRE_FIXED64 1
#define WIRE_BYTES 2
#define WIRE_FIXED32 5

struct span {
    const unsigned char *at, *end;
};

static bool varint(struct span *in, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        unsigned char byte = *in->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The first field `number` of `message`, which is of bytes; its span in `found`. */
static bool field(struct span message, unsigned number, struct span *found) {
    uint64_t key, size;
    while (message.at < message.end && varint(&message, &key)) {
        switch (key & 7) {
        case WIRE_VARINT:
            if (!varint(&message, &size))
                return false;
            continue;
        case WIRE_FIXED64:
            size = 8;
            break;
        case WIRE_FIXED32:
            size = 4;
            break;
        case WIRE_BYTES:
            if (!varint(&message, &size))
                return false;
            break;
        default:
            return false;
        }
        if (size > (uint64_t)(message.end - message.at))
            return false;
        if (key >> 3 == number) {
            *found = (struct span){message.at, message.at + size};
            return true;
        }
        message.at += size;
    }
    return false;
}

bool answer_is_right(const unsigned char *frame, size_t size, const float *expected, size_t count) {
    if (size < FRAME_PREFIX || frame[0] != 0)
        return false;
    struct span message = {frame + FRAME_PREFIX, frame + size}, output, contents, values;
    if (!field(message, RESPONSE_RAW_OUTPUT_CONTENTS, &values) &&
        !(field(message, RESPONSE_OUTPUTS, &output) && field(output, OUTPUT_CONTENTS, &contents) &&
          field(contents, CONTENTS_FP32, &values)))
        return false;
    if ((size_t)(values.end - values.at) != count * sizeof(float))
        return false;
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, values.at + i * sizeof value, sizeof value);
        if (!(fabsf(value - expected[i]) <= 1e-3f * fabsf(expected[i]) + 1e-4f))
            return false;
    }
    return true;
}
