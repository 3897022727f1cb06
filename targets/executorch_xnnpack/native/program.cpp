#include "program.h"

#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/platform/platform.h>

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
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Program;

thread_local std::string logged;
thread_local std::string failure;

// ExecuTorch says what is wrong in its log, at first exactly, and returns a number only.
void keep_log(
    et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t, const char* message, size_t length) {
  if (logged.empty() && (level == kError || level == kFatal)) {
    logged.assign(message, length);
  }
}

// A failed check of ExecuTorch ends here. The default is to end the process, which is the server's to decide.
void raise_instead_of_abort() {
  throw std::runtime_error("a check failed");
}

const bool registered = executorch::runtime::register_pal(executorch::runtime::PalImpl::create(
    nullptr, raise_instead_of_abort, nullptr, nullptr, keep_log, nullptr, nullptr, __FILE__));

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(Error error) {
  if (error != Error::Ok) {
    throw Failed(std::to_string(static_cast<uint32_t>(error)) + " " + to_string(error));
  }
}

template <typename Value>
Value require(executorch::runtime::Result<Value> result) {
  require(result.error());
  return std::move(*result);
}

// Runs `action`; when it throws, keeps why and returns `otherwise`.
template <typename Result, typename Action>
Result guarded(Result otherwise, Action action) {
  logged.clear();
  try {
    return action();
  } catch (const std::exception& error) {
    failure = error.what();
  } catch (...) {
    failure = "an unknown error";
  }
  if (!logged.empty()) {
    failure += ": " + logged;
  }
  return otherwise;
}

} // namespace

struct program {
  explicit program(const char* path) : module(path, Module::LoadMode::Mmap) {}

  Module module;
  std::vector<EValue> results;
  std::vector<std::vector<int32_t>> sizes;
  std::vector<program_tensor> outputs;
  std::map<std::string, std::string> texts;

  void keep(std::vector<EValue> values) {
    results = std::move(values);
    sizes.clear();
    outputs.clear();
    for (const EValue& value : results) {
      const auto& tensor = value.toTensor();
      sizes.emplace_back(tensor.sizes().begin(), tensor.sizes().end());
    }
    for (size_t i = 0; i < results.size(); ++i) {
      const auto& tensor = results[i].toTensor();
      outputs.push_back(
          {tensor.mutable_data_ptr(), sizes[i].data(), static_cast<int32_t>(sizes[i].size()),
           static_cast<int32_t>(tensor.scalar_type())});
    }
  }
};

program* program_load(const char* path, uint32_t threads) {
  return guarded<program*>(nullptr, [&] {
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(threads);
    auto loaded = std::make_unique<program>(path);
    require(loaded->module.load(Program::Verification::InternalConsistency));
    require(loaded->module.load_forward());
    return loaded.release();
  });
}

void program_free(program* loaded) {
  delete loaded;
}

int32_t program_run(program* loaded, const program_tensor* inputs, size_t count, const program_tensor** outputs) {
  return guarded<int32_t>(-1, [&] {
    std::vector<TensorPtr> tensors;
    std::vector<EValue> values;
    for (size_t i = 0; i < count; ++i) {
      const program_tensor& input = inputs[i];
      tensors.push_back(executorch::extension::make_tensor_ptr(
          std::vector<executorch::aten::SizesType>(input.sizes, input.sizes + input.rank), input.data,
          static_cast<ScalarType>(input.dtype)));
      values.emplace_back(tensors.back());
    }
    loaded->keep(require(loaded->module.forward(values)));
    *outputs = loaded->outputs.data();
    return static_cast<int32_t>(loaded->outputs.size());
  });
}

int64_t program_number(program* loaded, const char* method) {
  return guarded<int64_t>(-1, [&] {
    const EValue value = require(loaded->module.get(method));
    if (!value.isInt()) {
      throw Failed(std::string(method) + " is no whole number");
    }
    return value.toInt();
  });
}

const char* program_text(program* loaded, const char* method) {
  return guarded<const char*>(nullptr, [&] {
    const EValue value = require(loaded->module.get(method));
    if (!value.isString()) {
      throw Failed(std::string(method) + " is no text");
    }
    return (loaded->texts[method] = std::string(value.toString())).c_str();
  });
}

const char* program_error() {
  return failure.c_str();
}
