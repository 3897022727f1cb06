// ExecuTorch without a server or Python: a greedy loop over a decoder's program, as its own runners have it.
//
// A line in is how many tokens to answer with, and the prompt's; a line out is, for each token of the answer, the
// seconds since the line came and the token.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>

// ExecuTorch's package has this library, and no header for it.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
} // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::extension::from_blob;
using executorch::extension::Module;

void require(bool holds, const std::string& what) {
  if (!holds) {
    std::fprintf(stderr, "executorch_loop: %s\n", what.c_str());
    std::exit(1);
  }
}

// Feeds tokens in behind `length` others; the most likely one behind them.
int64_t next(Module& module, std::vector<int64_t> ids, int64_t length) {
  const auto count = static_cast<int32_t>(ids.size());
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), length);
  const auto results = module.forward(
      {from_blob(ids.data(), {1, count}, ScalarType::Long), from_blob(positions.data(), {count}, ScalarType::Long)});
  require(results.ok(), "the program fails");
  const auto& logits = results->at(0).toTensor();
  require(logits.scalar_type() == ScalarType::Float, "the logits are not float32");
  const float *end = logits.const_data_ptr<float>() + logits.numel(), *first = end - logits.size(logits.dim() - 1);
  return std::max_element(first, end) - first;
}

void answer(Module& module, std::vector<int64_t> ids, size_t tokens) {
  const auto since = std::chrono::steady_clock::now();
  std::ostringstream said;
  for (size_t length = 0; tokens > 0; --tokens) {
    const int64_t token = next(module, ids, length);
    length += ids.size();
    ids = {token};
    said << std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count() << ' ' << token << ' ';
  }
  std::cout << said.str() << std::endl;
}

} // namespace

// The program's file, how many threads, and the library with the operators that ExecuTorch lacks.
int main(int, char** arguments) {
  require(dlopen(arguments[3], RTLD_NOW | RTLD_GLOBAL), "no library of operators");
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(std::atoi(arguments[2]));
  Module module(arguments[1], Module::LoadMode::Mmap);
  require(module.load_forward() == executorch::runtime::Error::Ok, "the program cannot be loaded");
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    size_t tokens = 0;
    words >> tokens;
    answer(module, {std::istream_iterator<int64_t>(words), {}}, tokens);
  }
}
