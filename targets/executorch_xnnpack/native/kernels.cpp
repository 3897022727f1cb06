// The operators of decoders with a key-value cache, in float32: ExecuTorch's own are linked to torch.
//
// Tensors are [1, tokens, heads, size]. Keys and values may have fewer heads than queries, each shared by as many
// neighbours.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/core/function_ref.h>
#include <executorch/runtime/kernel/kernel_includes.h>

// ExecuTorch's package has this library, and no header for it.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  void run(runtime::FunctionRef<void(size_t)> task, size_t count);
};
ThreadPool* get_threadpool();
} // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::KernelRuntimeContext;

// One build for the machine that it runs on, of code that is compiled for several.
#if defined(__x86_64__)
#define FOR_THIS_MACHINE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_THIS_MACHINE
#endif

constexpr int64_t kLanes = 16;
// Multiplications that are worth waking other threads.
constexpr int64_t kWorthThreads = 1 << 20;

// What one head of one run attends to. Strides are in numbers from token to token.
struct Head {
  const float* query;
  const float* keys;
  const float* values;
  float* out;
  const float* mask; // [tokens, all], added to the scores; null for none
  int64_t query_stride;
  int64_t cache_stride;
  int64_t mask_stride;
  int64_t size;
  float scale;
};

// Many sums side by side: a compiler may not reorder the additions of one.
FOR_THIS_MACHINE void scores_of(const Head& head, int64_t token, int64_t seen, float* scores) {
  const float* query = head.query + token * head.query_stride;
  for (int64_t past = 0; past < seen; ++past) {
    const float* key = head.keys + past * head.cache_stride;
    float sums[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= head.size; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += query[i + lane] * key[i + lane];
      }
    }
    float sum = 0;
    for (; i < head.size; ++i) {
      sum += query[i] * key[i];
    }
    for (float each : sums) {
      sum += each;
    }
    scores[past] = sum * head.scale + (head.mask ? head.mask[token * head.mask_stride + past] : 0.0f);
  }
}

// e to the power of x <= 0, to the last digit or two: the library's takes a fifth of a prompt's time. What is no number
// stays none.
inline float power(float x) {
  constexpr float kLowest = -87.0f, kRound = 12582912.0f; // adding it leaves no digits behind the point
  x = std::max(x, kLowest);
  const float whole = (x * 1.44269504f + kRound) - kRound;
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln 2 in two parts
  float sum = 1.9875691500e-4f;
  for (float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    sum = sum * rest + factor;
  }
  sum = sum * rest * rest + rest + 1.0f;
  const int32_t bits = (static_cast<int32_t>(whole) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}

FOR_THIS_MACHINE void softmax(float* scores, int64_t count) {
  const float largest = *std::max_element(scores, scores + count);
  for (int64_t i = 0; i < count; ++i) {
    scores[i] = power(scores[i] - largest);
  }
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += scores[i];
  }
  const float factor = static_cast<float>(1 / sum);
  for (int64_t i = 0; i < count; ++i) {
    scores[i] *= factor;
  }
}

FOR_THIS_MACHINE void weigh(const Head& head, int64_t token, int64_t seen, const float* weights) {
  float* out = head.out + token * head.query_stride;
  std::fill(out, out + head.size, 0.0f);
  for (int64_t past = 0; past < seen; ++past) {
    const float* value = head.values + past * head.cache_stride;
    const float weight = weights[past];
    for (int64_t i = 0; i < head.size; ++i) {
      out[i] += weight * value[i];
    }
  }
}

bool is_contiguous(const Tensor& tensor) {
  int64_t expected = 1;
  for (ssize_t dim = tensor.dim() - 1; dim >= 0; --dim) {
    if (tensor.size(dim) != 1 && tensor.strides()[dim] != expected) {
      return false;
    }
    expected *= tensor.size(dim);
  }
  return true;
}

bool is_plain(const Tensor& tensor) {
  return tensor.dim() == 4 && tensor.size(0) == 1 && is_contiguous(tensor);
}

Tensor& update_cache_out(
    KernelRuntimeContext& context, const Tensor& value, const Tensor& cache, int64_t start, Tensor& out) {
  ET_KERNEL_CHECK_MSG(
      context,
      is_plain(value) && is_plain(cache) && value.scalar_type() == cache.scalar_type() &&
          value.size(2) == cache.size(2) && value.size(3) == cache.size(3),
      InvalidArgument, out, "update_cache takes values of its cache's heads, size and type");
  ET_KERNEL_CHECK_MSG(
      context, start >= 0 && start + value.size(1) <= cache.size(1), InvalidArgument, out,
      "update_cache: %d tokens at %d do not fit into %d", static_cast<int>(value.size(1)), static_cast<int>(start),
      static_cast<int>(cache.size(1)));
  const size_t row = cache.size(2) * cache.size(3) * cache.element_size();
  std::memcpy(static_cast<char*>(cache.mutable_data_ptr()) + start * row, value.const_data_ptr(), value.nbytes());
  return out;
}

// Each token has a place of its own: the cache of a layer that sees the latest tokens only goes round.
Tensor& update_cache_with_indices_out(
    KernelRuntimeContext& context, const Tensor& value, const Tensor& cache, int64_t start, const Tensor& indices,
    Tensor& out) {
  (void)start;
  ET_KERNEL_CHECK_MSG(
      context,
      is_plain(value) && is_plain(cache) && value.scalar_type() == cache.scalar_type() &&
          value.size(2) == cache.size(2) && value.size(3) == cache.size(3) && indices.dim() == 2 &&
          indices.size(0) == 1 && indices.size(1) == value.size(1) && indices.scalar_type() == ScalarType::Long,
      InvalidArgument, out, "update_cache_with_indices takes values of its cache's heads, size and type, and as many places");
  const size_t row = cache.size(2) * cache.size(3) * cache.element_size();
  for (int64_t token = 0; token < value.size(1); ++token) {
    const int64_t place = indices.const_data_ptr<int64_t>()[token];
    ET_KERNEL_CHECK_MSG(
        context, place >= 0 && place < cache.size(1), InvalidArgument, out,
        "update_cache_with_indices: there is no place %d in %d", static_cast<int>(place), static_cast<int>(cache.size(1)));
    std::memcpy(
        static_cast<char*>(cache.mutable_data_ptr()) + place * row,
        static_cast<const char*>(value.const_data_ptr()) + token * row, row);
  }
  return out;
}

Tensor& custom_sdpa_out(
    KernelRuntimeContext& context,
    const Tensor& query,
    const Tensor& keys,
    const Tensor& values,
    int64_t start,
    const std::optional<Tensor>& mask,
    double dropout,
    bool causal,
    std::optional<double> scale,
    Tensor& out) {
  const int64_t tokens = query.size(1), all = keys.size(1), size = query.size(3);
  const auto is_float = [](const Tensor& tensor) { return is_plain(tensor) && tensor.scalar_type() == ScalarType::Float; };
  ET_KERNEL_CHECK_MSG(
      context,
      is_float(query) && is_float(keys) && is_float(values) && keys.sizes() == values.sizes() &&
          keys.size(3) == size && query.size(2) % keys.size(2) == 0,
      InvalidArgument, out, "custom_sdpa takes contiguous float32 tensors [1, tokens, heads, size]");
  ET_KERNEL_CHECK_MSG(
      context, start >= 0 && (!causal || start + tokens <= all), InvalidArgument, out,
      "custom_sdpa: %d tokens at %d do not fit into %d", static_cast<int>(tokens), static_cast<int>(start),
      static_cast<int>(all));
  ET_KERNEL_CHECK_MSG(
      context,
      !mask || (mask->dim() == 2 && mask->size(0) == tokens && mask->size(1) == all && is_contiguous(*mask) &&
                mask->scalar_type() == ScalarType::Float),
      InvalidArgument, out, "custom_sdpa takes a float32 mask [tokens, all]");
  ET_KERNEL_CHECK_MSG(context, dropout == 0, InvalidArgument, out, "custom_sdpa has no dropout");
  ET_KERNEL_CHECK_MSG(
      context, resize_tensor(out, query.sizes()) == Error::Ok, InvalidArgument, out, "custom_sdpa cannot size its output");

  const int64_t heads = query.size(2), shared = heads / keys.size(2);
  const auto attend = [&](size_t index) {
    const int64_t cached = static_cast<int64_t>(index) / shared * size;
    const Head head{
        query.const_data_ptr<float>() + index * size,
        keys.const_data_ptr<float>() + cached,
        values.const_data_ptr<float>() + cached,
        out.mutable_data_ptr<float>() + index * size,
        mask ? mask->const_data_ptr<float>() : nullptr,
        heads * size,
        keys.size(2) * size,
        all,
        size,
        static_cast<float>(scale ? *scale : 1.0 / std::sqrt(static_cast<double>(size))),
    };
    std::vector<float> scores(causal ? start + tokens : all);
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t seen = causal ? start + token + 1 : all;
      scores_of(head, token, seen, scores.data());
      softmax(scores.data(), seen);
      weigh(head, token, seen, scores.data());
    }
  };
  if (heads * tokens * (causal ? start + tokens : all) * size < kWorthThreads) {
    for (int64_t head = 0; head < heads; ++head) {
      attend(head);
    }
  } else {
    executorch::extension::threadpool::get_threadpool()->run(attend, heads);
  }
  return out;
}

} // namespace

EXECUTORCH_LIBRARY(llama, "update_cache.out", update_cache_out);
EXECUTORCH_LIBRARY(llama, "update_cache_with_indices.out", update_cache_with_indices_out);
EXECUTORCH_LIBRARY(llama, "custom_sdpa.out", custom_sdpa_out);
