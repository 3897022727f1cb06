// What Python sees of libtorch: load a model, run it, read its outputs. Plain C, for ctypes.
#pragma once

#include <cstdint>

extern "C" {

// One tensor: contiguous, its data owned by whoever made it.
struct Array {
  void* data;
  int64_t is_float;  // 1 for float32, 0 for int64
  int64_t axes;
  int64_t shape[8];
};

// A model of one file (a TorchScript archive) or of one folder (an AOTInductor package); null when it cannot be read.
void* model_load(const char* path, int64_t threads, char* error, int64_t error_size);

// The number of outputs, or -1 with the reason in `error`. Outputs belong to the model until its next call.
int64_t model_run(void* model, const Array* inputs, int64_t count, char* error, int64_t error_size);

// Output `index` of the last call: float32.
Array model_output(void* model, int64_t index);
}
