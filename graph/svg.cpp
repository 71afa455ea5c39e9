// A layered drawing of a graph.
#include <fmt/format.h>

#include <algorithm>

#include "graph/graph.h"
#include "graph/value_names.h"

namespace fluxion::graph {

namespace {

constexpr double kWidth = 150, kHeight = 40, kColumn = 170, kRow = 74, kMargin = 24;

std::string escaped(std::string_view s) {
  std::string out;
  for (char c : s) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += static_cast<unsigned char>(c) < 32 ? '?' : c;
    }
  }
  return out;
}

std::string shortened(std::string s, size_t most) {
  if (s.size() > most) s = s.substr(0, most - 2) + "..";
  return s;
}

/// A box: an input, a node or a result.
struct Box {
  std::string title, detail, tip;
  const char* kind;
  size_t layer = 0;
  double order = 0;  // within the layer
  double x = 0, y = 0;
};

class Drawing {
 public:
  Drawing(const Graph& root, const Graph& g) : root_(root), g_(g), names_(g) {
    maker_.assign(g.values.size(), SIZE_MAX);
    boxes();
    place();
  }

  double width() const { return width_; }
  double height() const { return height_; }

  std::string text(double dx, double dy) const {
    std::string out = fmt::format("<g transform=\"translate({:.0f} {:.0f})\">\n", dx, dy);
    for (auto [from, to] : edges_) {
      const Box &a = boxes_[from], &b = boxes_[to];
      double x1 = a.x + kWidth / 2, y1 = a.y + kHeight, x2 = b.x + kWidth / 2, y2 = b.y;
      double bend = (y2 - y1) / 2;
      out += fmt::format("<path d=\"M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}\"/>\n",
                         x1, y1, x1, y1 + bend, x2, y2 - bend, x2, y2);
    }
    for (const Box& b : boxes_)
      out += fmt::format(
          "<g class=\"{}\"><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.0f}\" "
          "height=\"{:.0f}\" rx=\"6\"/><text x=\"{:.1f}\" y=\"{:.1f}\">{}</text><text class=\"type\" "
          "x=\"{:.1f}\" y=\"{:.1f}\">{}</text></g>\n",
          b.kind, escaped(b.tip), b.x, b.y, kWidth, kHeight, b.x + kWidth / 2, b.y + 16,
          escaped(shortened(b.title, 22)), b.x + kWidth / 2, b.y + 31,
          escaped(shortened(b.detail, 26)));
    return out + "</g>\n";
  }

 private:
  std::string type(ValueId v) const {
    return v < g_.values.size() ? type_text(g_.values[v], root_.dims) : "";
  }

  void add(Box b, const std::vector<ValueId>& in, const std::vector<ValueId>& out) {
    size_t self = boxes_.size();
    double sum = 0, count = 0;
    for (ValueId v : in) {
      size_t from = v < maker_.size() ? maker_[v] : SIZE_MAX;
      if (from == SIZE_MAX) continue;
      b.layer = std::max(b.layer, boxes_[from].layer + 1);
      sum += boxes_[from].order, ++count;
      if (edges_.empty() || edges_.back() != std::pair(from, self)) edges_.emplace_back(from, self);
    }
    b.order = count ? sum / count : static_cast<double>(self);
    for (ValueId v : out)
      if (v < maker_.size()) maker_[v] = self;
    boxes_.push_back(std::move(b));
  }

  void boxes() {
    static constexpr const char* kKinds[] = {"argument", "slot", "constant"};
    for (const Input& i : g_.inputs)
      add({.title = i.name.empty() ? names_(i.value) : i.name,
           .detail = type(i.value),
           .tip = std::string(kKinds[static_cast<size_t>(i.kind) % 3]) + " " + i.name,
           .kind = kKinds[static_cast<size_t>(i.kind) % 3]},
          {}, {i.value});
    for (const Node& n : g_.nodes) {
      Box b{.title = n.op ? n.op->name : "?",
            .detail = n.out.empty() ? "" : type(n.out[0]),
            .tip = "",
            .kind = "node"};
      for (ValueId v : n.out) b.tip += (b.tip.empty() ? "" : ", ") + names_(v);
      if (n.location && n.location < root_.locations.size()) {
        const Location& l = root_.locations[n.location];
        b.tip += fmt::format(" {}:{} {}", l.file, l.line, l.module);
      }
      add(std::move(b), n.in, n.out);
    }
    lower_inputs();
    size_t last = 0;
    for (const Box& b : boxes_) last = std::max(last, b.layer);
    for (const Result& r : g_.results) end(r.name, "result", r.value, last + 1);
    for (const Write& w : g_.writes)
      if (w.input < g_.inputs.size()) end(g_.inputs[w.input].name, "write", w.value, last + 1);
  }

  /// Inputs stand right above what reads them first.
  void lower_inputs() {
    std::vector<size_t> reader(g_.inputs.size(), SIZE_MAX);
    for (auto [from, to] : edges_)
      if (from < reader.size() &&
          (reader[from] == SIZE_MAX || boxes_[to].layer < boxes_[reader[from]].layer))
        reader[from] = to;
    for (size_t i = 0; i < reader.size(); ++i)
      if (reader[i] != SIZE_MAX) {
        boxes_[i].layer = boxes_[reader[i]].layer - 1;
        boxes_[i].order = boxes_[reader[i]].order;
      }
  }

  void end(const std::string& name, const char* kind, ValueId v, size_t layer) {
    add({.title = name, .detail = type(v), .tip = std::string(kind) + " " + name, .kind = kind},
        {v}, {});
    boxes_.back().layer = layer;
  }

  /// Boxes of a layer side by side, in the order of what they read.
  void place() {
    std::vector<std::vector<size_t>> layers;
    for (size_t i = 0; i < boxes_.size(); ++i) {
      if (layers.size() <= boxes_[i].layer) layers.resize(boxes_[i].layer + 1);
      layers[boxes_[i].layer].push_back(i);
    }
    size_t widest = 1;
    for (const auto& l : layers) widest = std::max(widest, l.size());
    width_ = static_cast<double>(widest) * kColumn;
    height_ = static_cast<double>(layers.size()) * kRow;
    for (size_t l = 0; l < layers.size(); ++l) {
      std::ranges::stable_sort(layers[l], {}, [&](size_t i) { return boxes_[i].order; });
      double left = (width_ - static_cast<double>(layers[l].size()) * kColumn) / 2;
      for (size_t k = 0; k < layers[l].size(); ++k) {
        boxes_[layers[l][k]].x = left + static_cast<double>(k) * kColumn + (kColumn - kWidth) / 2;
        boxes_[layers[l][k]].y = static_cast<double>(l) * kRow;
      }
    }
  }

  const Graph &root_, &g_;
  ValueNames names_;
  std::vector<size_t> maker_;  // the box that defines each value
  std::vector<Box> boxes_;
  std::vector<std::pair<size_t, size_t>> edges_;
  double width_ = 0, height_ = 0;
};

constexpr const char* kStyle =
    "text{font:12px sans-serif;text-anchor:middle;fill:#1c2733}.type{font-size:10px;fill:#5b6b7b}"
    ".panel{font-weight:bold;text-anchor:start}path{fill:none;stroke:#9aa9b8}"
    "rect{fill:#fff;stroke:#7d8fa1}.argument rect{fill:#e3f0fd}.slot rect{fill:#fdf3dc}"
    ".constant rect{fill:#f0f0f0}.result rect{fill:#e2f6e6}.write rect{fill:#fde7e2}";

/// The graph, then its regions, one below the other.
void panels(const Graph& root, const Graph& g, const std::string& title, std::string& out,
            double& width, double& top) {
  Drawing d(root, g);
  out += fmt::format("<text class=\"panel\" x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n", kMargin, top,
                     escaped(title));
  out += d.text(kMargin, top + 12);
  width = std::max(width, d.width() + 2 * kMargin);
  top += d.height() + kRow / 2;
  for (const Node& n : g.nodes)
    for (const auto& r : n.regions)
      if (r)
        panels(root, *r, fmt::format("{} / {} / {}", title, n.op ? n.op->name : "?", r->name), out,
               width, top);
}

}  // namespace

std::string to_svg(const Graph& g) {
  std::string body;
  double width = 0, top = kMargin;
  panels(g, g, g.name, body, width, top);
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0f}\" height=\"{:.0f}\" "
             "viewBox=\"0 0 {:.0f} {:.0f}\">\n<style>{}</style>\n",
             width, top, width, top, kStyle) +
         body + "</svg>\n";
}

}  // namespace fluxion::graph
