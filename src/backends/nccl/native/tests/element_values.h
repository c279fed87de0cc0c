// Numbers as bytes of a dtype.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace c10d::test {

using Bytes = std::vector<uint8_t>;

/// Of a complex dtype, two numbers are one element.
Bytes encoded(const std::vector<double>& numbers, uint32_t dtype);
std::vector<double> decoded(const Bytes& bytes, uint32_t dtype);

/// Numbers for one element: 2 of a complex dtype.
size_t numbers_per_element(uint32_t dtype);

}  // namespace c10d::test
