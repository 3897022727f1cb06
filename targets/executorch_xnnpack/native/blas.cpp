// What numpy needs of a BLAS library, in plain loops, in the place of OpenBLAS: the server multiplies vectors, and no
// matrices worth 28 MB. Real numbers only: all else ends the process with the name of what was called.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kColumns = 102, kTransposed = 112, kUpper = 121;

// Where element [row, column] of a matrix lies.
int64_t at(int order, int64_t row, int64_t column, int64_t stride) {
  return order == kColumns ? column * stride + row : row * stride + column;
}

int64_t at(int order, int transposed, int64_t row, int64_t column, int64_t stride) {
  return transposed == kTransposed ? at(order, column, row, stride) : at(order, row, column, stride);
}

// BLAS counts a negative step from the other end.
int64_t first(int64_t count, int64_t step) {
  return step < 0 ? (1 - count) * step : 0;
}

template <typename Real>
Real dot(int64_t count, const Real* x, int64_t step_x, const Real* y, int64_t step_y) {
  double sum = 0;
  for (int64_t i = 0, a = first(count, step_x), b = first(count, step_y); i < count; ++i, a += step_x, b += step_y) {
    sum += static_cast<double>(x[a]) * y[b];
  }
  return static_cast<Real>(sum);
}

template <typename Real>
void axpy(int64_t count, Real factor, const Real* x, int64_t step_x, Real* y, int64_t step_y) {
  for (int64_t i = 0, a = first(count, step_x), b = first(count, step_y); i < count; ++i, a += step_x, b += step_y) {
    y[b] += factor * x[a];
  }
}

// What was there counts only with a factor: it may be anything, not even a number.
template <typename Real>
void put(Real& target, Real alpha, double sum, Real beta) {
  target = static_cast<Real>(alpha * sum + (beta == 0 ? 0 : static_cast<double>(beta) * target));
}

template <typename Real>
void gemm(
    int order, int turn_a, int turn_b, int64_t rows, int64_t columns, int64_t inner, Real alpha, const Real* a,
    int64_t stride_a, const Real* b, int64_t stride_b, Real beta, Real* c, int64_t stride_c) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      double sum = 0;
      for (int64_t i = 0; i < inner; ++i) {
        sum += static_cast<double>(a[at(order, turn_a, row, i, stride_a)]) * b[at(order, turn_b, i, column, stride_b)];
      }
      put(c[at(order, row, column, stride_c)], alpha, sum, beta);
    }
  }
}

template <typename Real>
void gemv(
    int order, int turn, int64_t rows, int64_t columns, Real alpha, const Real* a, int64_t stride, const Real* x,
    int64_t step_x, Real beta, Real* y, int64_t step_y) {
  const int64_t outer = turn == kTransposed ? columns : rows, inner = turn == kTransposed ? rows : columns;
  for (int64_t i = 0; i < outer; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < inner; ++j) {
      sum += static_cast<double>(a[at(order, turn, i, j, stride)]) * x[first(inner, step_x) + j * step_x];
    }
    put(y[first(outer, step_y) + i * step_y], alpha, sum, beta);
  }
}

template <typename Real>
void syrk(
    int order, int side, int turn, int64_t size, int64_t inner, Real alpha, const Real* a, int64_t stride_a, Real beta,
    Real* c, int64_t stride_c) {
  for (int64_t row = 0; row < size; ++row) {
    for (int64_t column = side == kUpper ? row : 0; column < (side == kUpper ? size : row + 1); ++column) {
      double sum = 0;
      for (int64_t i = 0; i < inner; ++i) {
        sum += static_cast<double>(a[at(order, turn, row, i, stride_a)]) * a[at(order, turn, column, i, stride_a)];
      }
      put(c[at(order, row, column, stride_c)], alpha, sum, beta);
    }
  }
}

} // namespace

#define REAL(letter, Real)                                                                                           \
  Real scipy_cblas_##letter##dot64_(int64_t n, const Real* x, int64_t i, const Real* y, int64_t j) {                 \
    return dot(n, x, i, y, j);                                                                                       \
  }                                                                                                                  \
  void scipy_cblas_##letter##axpy64_(int64_t n, Real f, const Real* x, int64_t i, Real* y, int64_t j) {              \
    axpy(n, f, x, i, y, j);                                                                                          \
  }                                                                                                                  \
  void scipy_cblas_##letter##gemm64_(                                                                                \
      int order, int ta, int tb, int64_t m, int64_t n, int64_t k, Real f, const Real* a, int64_t la, const Real* b,  \
      int64_t lb, Real g, Real* c, int64_t lc) {                                                                     \
    gemm(order, ta, tb, m, n, k, f, a, la, b, lb, g, c, lc);                                                         \
  }                                                                                                                  \
  void scipy_cblas_##letter##gemv64_(                                                                                \
      int order, int t, int64_t m, int64_t n, Real f, const Real* a, int64_t la, const Real* x, int64_t i, Real g,   \
      Real* y, int64_t j) {                                                                                          \
    gemv(order, t, m, n, f, a, la, x, i, g, y, j);                                                                   \
  }                                                                                                                  \
  void scipy_cblas_##letter##syrk64_(                                                                                \
      int order, int side, int t, int64_t n, int64_t k, Real f, const Real* a, int64_t la, Real g, Real* c,          \
      int64_t lc) {                                                                                                  \
    syrk(order, side, t, n, k, f, a, la, g, c, lc);                                                                  \
  }

#define MISSING(name)                                                                         \
  void name() {                                                                               \
    std::fprintf(stderr, #name ": this image has no BLAS and LAPACK, see native/blas.cpp\n"); \
    std::abort();                                                                             \
  }

#define MISSING_OF_COMPLEX(letter)                                                                                     \
  MISSING(scipy_cblas_##letter##axpy64_)                                                                               \
  MISSING(scipy_cblas_##letter##dotc_sub64_)                                                                           \
  MISSING(scipy_cblas_##letter##dotu_sub64_)                                                                           \
  MISSING(scipy_cblas_##letter##gemm64_) MISSING(scipy_cblas_##letter##gemv64_) MISSING(scipy_cblas_##letter##syrk64_)

// LAPACK's, of `numpy.linalg`, which numpy loads whether it is used or not.
#define MISSING_OF_ALL(letter)                                                                              \
  MISSING(scipy_##letter##copy_64_)                                                                         \
  MISSING(scipy_##letter##gelsd_64_)                                                                        \
  MISSING(scipy_##letter##gesdd_64_)                                                                        \
  MISSING(scipy_##letter##gesv_64_) MISSING(scipy_##letter##getrf_64_) MISSING(scipy_##letter##potrf_64_) \
  MISSING(scipy_##letter##geev_64_) MISSING(scipy_##letter##geqrf_64_)

extern "C" {
REAL(s, float)
REAL(d, double)
MISSING_OF_COMPLEX(c)
MISSING_OF_COMPLEX(z)
MISSING_OF_ALL(s)
MISSING_OF_ALL(d)
MISSING_OF_ALL(c)
MISSING_OF_ALL(z)
MISSING(scipy_ssyevd_64_)
MISSING(scipy_dsyevd_64_)
MISSING(scipy_cheevd_64_)
MISSING(scipy_zheevd_64_)
MISSING(scipy_dorgqr_64_)
MISSING(scipy_zungqr_64_)
}
