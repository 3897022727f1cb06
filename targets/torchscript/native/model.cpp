#include "model.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using Tensors = std::vector<at::Tensor>;

class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;

  Tensors outputs;

  void run(const Tensors& inputs) {
    const c10::InferenceMode inference;
    outputs = forward(inputs);
    for (at::Tensor& output : outputs) {
      output = output.to(at::kFloat).contiguous();
    }
  }

 protected:
  virtual Tensors forward(const Tensors& inputs) = 0;
};

class Script final : public Model {
 public:
  explicit Script(const std::string& path) : module_(torch::jit::load(path, at::kCPU)) {
    module_.eval();
  }

 protected:
  Tensors forward(const Tensors& inputs) override {
    const c10::IValue result = module_.forward(std::vector<c10::IValue>(inputs.begin(), inputs.end()));
    Tensors found;
    for (const c10::IValue& element : result.toTupleRef().elements()) {
      found.push_back(element.toTensor());
    }
    return found;
  }

 private:
  torch::jit::Module module_;
};

class Package final : public Model {
 public:
  explicit Package(const std::string& path) : loader_(path) {}

 protected:
  Tensors forward(const Tensors& inputs) override { return loader_.run(inputs); }

 private:
  torch::inductor::AOTIModelPackageLoader loader_;
};

at::Tensor borrowed(const Array& array) {
  const at::IntArrayRef shape(array.shape, static_cast<size_t>(array.axes));
  return at::from_blob(array.data, shape, at::TensorOptions(array.is_float != 0 ? at::kFloat : at::kLong));
}

// The reason without libtorch's backtrace, which follows in further lines.
void explain(const std::exception& exception, char* error, int64_t error_size) {
  const std::string reason = exception.what();
  std::snprintf(error, static_cast<size_t>(error_size), "%s", reason.substr(0, reason.find("\nException raised")).c_str());
}

}  // namespace

void* model_load(const char* path, int64_t threads, char* error, int64_t error_size) {
  try {
    at::set_num_threads(static_cast<int>(threads));
    std::unique_ptr<Model> model;
    if (std::filesystem::is_directory(path)) {
      model = std::make_unique<Package>(path);
    } else {
      model = std::make_unique<Script>(path);
    }
    return model.release();
  } catch (const std::exception& exception) {
    explain(exception, error, error_size);
    return nullptr;
  }
}

int64_t model_run(void* model, const Array* inputs, int64_t count, char* error, int64_t error_size) {
  try {
    Model& known = *static_cast<Model*>(model);
    Tensors tensors;
    std::transform(inputs, inputs + count, std::back_inserter(tensors), borrowed);
    known.run(tensors);
    return static_cast<int64_t>(known.outputs.size());
  } catch (const std::exception& exception) {
    explain(exception, error, error_size);
    return -1;
  }
}

Array model_output(void* model, int64_t index) {
  const at::Tensor& output = static_cast<Model*>(model)->outputs.at(static_cast<size_t>(index));
  Array array{output.data_ptr(), 1, output.dim(), {}};
  std::copy(output.sizes().begin(), output.sizes().end(), array.shape);
  return array;
}
