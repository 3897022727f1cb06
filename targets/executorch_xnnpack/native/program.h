// An ExecuTorch program behind plain C: what Python calls by ctypes, and any other language by its own way to C.
//
// Nothing here throws, and nothing ends the process: a call that fails says so, and `program_error` says why.
// One program is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// A tensor that somebody else owns. `dtype` is a `ScalarType` of ExecuTorch: 4 is int64, 6 is float32.
struct program_tensor {
  void* data;
  const int32_t* sizes;
  int32_t rank;
  int32_t dtype;
};

struct program;

// Loads a file and its method `forward`; all programs of the process share one pool of so many threads.
// Null when that fails.
program* program_load(const char* path, uint32_t threads);

void program_free(program* loaded);

// Runs `forward`. Inputs are read in place. Outputs live in the program until its next run: `*outputs` points to
// them, and the return value is how many; negative when the run fails.
int32_t program_run(program* loaded, const program_tensor* inputs, size_t count, const program_tensor** outputs);

// What a method without inputs says of the program: a whole number, or a text that lives as long as the program.
// Negative and null when it is something else, or there is none.
int64_t program_number(program* loaded, const char* method);
const char* program_text(program* loaded, const char* method);

// Why this thread's last call failed: ExecuTorch's code with its name, and the first error that it logged.
const char* program_error();
}
