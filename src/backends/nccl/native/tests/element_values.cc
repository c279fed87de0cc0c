#include "element_values.h"

#include <cstring>
#include <stdexcept>

#include "c10d.h"
#include "ops/dtype.h"
#include "reduction/half.h"

namespace c10d::test {

namespace {

template <class Number>
void put(Bytes& to, double number) {
  const auto value = static_cast<Number>(number);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

template <class Number>
double get(const uint8_t* from) {
  Number value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<double>(value);
}

template <class Half>
void put_half(Bytes& to, double number) {
  const auto single = static_cast<float>(number);
  uint16_t half = 0;
  Half::narrow(&half, &single, 1);
  put<uint16_t>(to, half);
}

template <class Half>
double get_half(const uint8_t* from) {
  uint16_t half = 0;
  std::memcpy(&half, from, sizeof half);
  float single = 0;
  Half::widen(&single, &half, 1);
  return single;
}

/// The same work for each dtype, with functions for one number.
template <class Visitor>
auto visit(uint32_t dtype, Visitor visitor) {
  switch (dtype) {
    case C10D_UINT8:
    case C10D_BOOL:
    case C10D_FLOAT8_E4M3FN:
    case C10D_FLOAT8_E5M2:
      return visitor(put<uint8_t>, get<uint8_t>);
    case C10D_INT8:
      return visitor(put<int8_t>, get<int8_t>);
    case C10D_INT16:
      return visitor(put<int16_t>, get<int16_t>);
    case C10D_UINT16:
      return visitor(put<uint16_t>, get<uint16_t>);
    case C10D_INT32:
      return visitor(put<int32_t>, get<int32_t>);
    case C10D_UINT32:
      return visitor(put<uint32_t>, get<uint32_t>);
    case C10D_INT64:
      return visitor(put<int64_t>, get<int64_t>);
    case C10D_UINT64:
      return visitor(put<uint64_t>, get<uint64_t>);
    case C10D_FLOAT16:
      return visitor(put_half<Float16>, get_half<Float16>);
    case C10D_BFLOAT16:
      return visitor(put_half<BFloat16>, get_half<BFloat16>);
    case C10D_FLOAT32:
    case C10D_COMPLEX64:
      return visitor(put<float>, get<float>);
    case C10D_FLOAT64:
    case C10D_COMPLEX128:
      return visitor(put<double>, get<double>);
    default:
      throw std::invalid_argument("no such dtype");
  }
}

}  // namespace

size_t numbers_per_element(uint32_t dtype) { return dtype == C10D_COMPLEX64 || dtype == C10D_COMPLEX128 ? 2 : 1; }

Bytes encoded(const std::vector<double>& numbers, uint32_t dtype) {
  Bytes all;
  visit(dtype, [&](auto put_one, auto) {
    for (const double number : numbers) put_one(all, number);
  });
  return all;
}

std::vector<double> decoded(const Bytes& bytes, uint32_t dtype) {
  std::vector<double> all;
  const size_t size = element_size(dtype) / numbers_per_element(dtype);
  visit(dtype, [&](auto, auto get_one) {
    for (size_t at = 0; at + size <= bytes.size(); at += size) all.push_back(get_one(bytes.data() + at));
  });
  return all;
}

}  // namespace c10d::test
