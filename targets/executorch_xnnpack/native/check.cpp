// The operators against plain loops in double precision, called as the runtime calls them. Run where they are
// compiled: a difference, or wrong arguments that pass, end the build.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <vector>

#include <executorch/extension/tensor/tensor_ptr_maker.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

namespace {

using executorch::extension::from_blob;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::KernelRuntimeContext;

constexpr double kClose = 2e-5;

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "native/check.cpp: %s\n", what);
    std::exit(1);
  }
}

struct Array {
  std::vector<float> data;
  std::vector<int32_t> sizes;

  explicit Array(std::vector<int32_t> shape) : sizes(std::move(shape)) {
    size_t count = 1;
    for (int32_t size : sizes) {
      count *= size;
    }
    data.resize(count);
  }

  Array& fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& each : data) {
      each = normal(random);
    }
    return *this;
  }

  float at(int token, int head, int i) const {
    return data[(static_cast<size_t>(token) * sizes[2] + head) * sizes[3] + i];
  }

  TensorPtr tensor() {
    return from_blob(data.data(), sizes);
  }
};

Error call(const char* name, std::vector<EValue> values) {
  auto found = executorch::runtime::get_op_function_from_registry(name);
  require(found.ok(), "an operator is not registered");
  std::vector<EValue*> stack;
  for (EValue& value : values) {
    stack.push_back(&value);
  }
  KernelRuntimeContext context;
  (*found)(context, {stack.data(), stack.size()});
  return context.failure_state();
}

Error attend(Array& query, Array& keys, Array& values, Array& out, int64_t start, bool causal, Array* mask) {
  return call(
      "llama::custom_sdpa.out",
      {query.tensor(), keys.tensor(), values.tensor(), start, mask ? EValue(mask->tensor()) : EValue(), 0.0, causal,
       EValue(), out.tensor()});
}

double expected(
    const Array& query, const Array& keys, const Array& values, int64_t start, bool causal, const Array* mask,
    int token, int head, int i) {
  const int shared = head / (query.sizes[2] / keys.sizes[2]), seen = causal ? start + token + 1 : keys.sizes[1];
  double sum = 0, weighed = 0;
  for (int past = 0; past < seen; ++past) {
    double score = 0;
    for (int j = 0; j < query.sizes[3]; ++j) {
      score += static_cast<double>(query.at(token, head, j)) * keys.at(past, shared, j);
    }
    score = score / std::sqrt(query.sizes[3]) + (mask ? mask->data[token * mask->sizes[1] + past] : 0.0);
    sum += std::exp(score);
    weighed += std::exp(score) * values.at(past, shared, i);
  }
  return weighed / sum;
}

void check_attention(int tokens, int all, int heads, int shared, int size, int64_t start, bool causal, bool masked) {
  Array query({1, tokens, heads, size}), keys({1, all, shared, size}), values({1, all, shared, size});
  Array out({1, tokens, heads, size}), mask({tokens, all});
  Array* given = masked ? &mask.fill(4) : nullptr;
  query.fill(1), keys.fill(2), values.fill(3);
  require(attend(query, keys, values, out, start, causal, given) == Error::Ok, "custom_sdpa fails");
  for (int token = 0; token < tokens; ++token) {
    for (int head = 0; head < heads; ++head) {
      for (int i = 0; i < size; ++i) {
        const double right = expected(query, keys, values, start, causal, given, token, head, i);
        require(std::abs(out.at(token, head, i) - right) < kClose, "custom_sdpa is wrong");
      }
    }
  }
}

void check_attention_refuses() {
  Array query({1, 3, 4, 8}), keys({1, 16, 2, 8}), odd({1, 16, 3, 8}), out({1, 3, 4, 8});
  require(attend(query, keys, keys, out, 14, true, nullptr) != Error::Ok, "custom_sdpa reads behind its cache");
  require(attend(query, keys, keys, out, -1, true, nullptr) != Error::Ok, "custom_sdpa reads before its cache");
  require(attend(query, odd, odd, out, 0, true, nullptr) != Error::Ok, "custom_sdpa shares 3 heads among 4");
}

void check_cache() {
  Array value({1, 2, 3, 4}), cache({1, 8, 3, 4}), unused({1});
  value.fill(5);
  const auto update = [&](int64_t start) {
    return call("llama::update_cache.out", {value.tensor(), cache.tensor(), start, unused.tensor()});
  };
  require(update(5) == Error::Ok, "update_cache fails");
  for (size_t i = 0; i < cache.data.size(); ++i) {
    const size_t from = 5 * 12, to = from + value.data.size();
    require(cache.data[i] == (i < from || i >= to ? 0.0f : value.data[i - from]), "update_cache is wrong");
  }
  require(update(7) != Error::Ok && update(-1) != Error::Ok, "update_cache writes beside its cache");
}

void check_cache_that_goes_round() {
  Array value({1, 2, 3, 4}), cache({1, 8, 3, 4}), unused({1});
  value.fill(6);
  const auto update = [&](int64_t first, int64_t second) {
    std::vector<int64_t> places = {first, second};
    const TensorPtr indices = from_blob(places.data(), {1, 2}, executorch::aten::ScalarType::Long);
    return call(
        "llama::update_cache_with_indices.out",
        {value.tensor(), cache.tensor(), int64_t{0}, indices, unused.tensor()});
  };
  require(update(7, 0) == Error::Ok, "update_cache_with_indices fails");
  for (size_t i = 0; i < 12; ++i) {
    require(cache.data[7 * 12 + i] == value.data[i], "update_cache_with_indices is wrong before it goes round");
    require(cache.data[i] == value.data[12 + i], "update_cache_with_indices is wrong after it went round");
  }
  require(update(8, 0) != Error::Ok && update(0, -1) != Error::Ok, "update_cache_with_indices writes beside its cache");
}

} // namespace

int main() {
  check_attention(1, 16, 4, 2, 64, 9, true, false);
  check_attention(5, 16, 9, 3, 64, 11, true, false);
  check_attention(3, 7, 2, 2, 20, 0, false, false);
  check_attention(4, 9, 4, 1, 16, 0, false, true);
  check_attention(128, 200, 8, 4, 32, 64, true, false); // in several threads
  check_attention_refuses();
  check_cache();
  check_cache_that_goes_round();
}
