// Which of a stream's tables codes a symbol: decided by the scale of its row plus the scale of its column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace noworse {

constexpr std::size_t kMaxScale = 31;                  // of a row or a column
constexpr std::size_t kScaleSums = 2 * kMaxScale + 1;  // 0 .. 62

// Symbol i lies in row i / columns.size() and column i % columns.size() of a matrix. Rows of equal scale repeat one
// pattern of classes, which is made once: together the patterns take at most a byte per element of the matrix.
class ClassMap {
  public:
    ClassMap() = default;
    // `of` maps a sum of scales to the number of its table.
    ClassMap(const std::int32_t* rows, std::size_t row_count, const std::int32_t* columns, std::size_t column_count,
             const std::vector<std::uint8_t>& of)
        : width_(column_count), rows_(row_count), patterns_(kMaxScale + 1) {
        const auto bad = [](std::int32_t scale) { return scale < 0 || scale > static_cast<std::int32_t>(kMaxScale); };
        for (std::size_t c = 0; c < column_count; ++c)
            if (bad(columns[c])) throw std::domain_error("the scale of a column is out of range");
        for (std::size_t r = 0; r < row_count; ++r) {
            if (bad(rows[r])) throw std::domain_error("the scale of a row is out of range");
            rows_[r] = static_cast<std::uint8_t>(rows[r]);
            std::vector<std::uint8_t>& pattern = patterns_[rows_[r]];
            if (!pattern.empty()) continue;
            pattern.resize(column_count);
            for (std::size_t c = 0; c < column_count; ++c)
                pattern[c] = of[static_cast<std::size_t>(rows[r] + columns[c])];
        }
    }

    bool empty() const { return width_ == 0; }
    std::size_t size() const { return width_ * rows_.size(); }
    unsigned at(std::size_t i) const { return empty() ? 0 : patterns_[rows_[i / width_]][i % width_]; }

    // Classes of the symbols first .. first + count - 1.
    void fill(std::size_t first, std::uint8_t* out, std::size_t count) const {
        std::size_t row = first / width_, column = first % width_;
        while (count > 0) {
            const std::size_t n = count < width_ - column ? count : width_ - column;
            std::memcpy(out, patterns_[rows_[row++]].data() + column, n);
            out += n;
            count -= n;
            column = 0;
        }
    }

  private:
    std::size_t width_ = 0;
    std::vector<std::uint8_t> rows_;
    std::vector<std::vector<std::uint8_t>> patterns_;
};

}  // namespace noworse
