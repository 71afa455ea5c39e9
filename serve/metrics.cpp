#include "serve/metrics.h"

#include <fmt/format.h>

#include <iterator>

namespace fluxion::serve {

namespace {

void append_header(std::string& out, const char* name, const char* help, const char* type) {
  fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

/// A label's value: backslash, quote and newline escaped.
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out;
}

template <class F>
void for_each_version(const Catalog& catalog, F&& f) {
  for (const auto& [name, entry] : catalog.models)
    for (const auto& [number, version] : entry.versions) f(*version);
}

struct Family {
  const char *name, *help;
  Count count;
  uint64_t divisor = 1;
};
constexpr Family kFamilies[] = {
    {"nv_inference_request_success", "Number of successful inference requests", kSuccess},
    {"nv_inference_count", "Number of inferences performed", kSuccess},
    {"nv_inference_exec_count", "Number of model executions performed", kSuccess},
    {"nv_inference_request_duration_us", "Cumulative inference request duration in microseconds",
     kSuccessNs, 1000},
    {"nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds",
     kQueueNs, 1000},
    {"nv_inference_compute_input_duration_us", "Cumulative compute input duration in microseconds",
     kInputNs, 1000},
    {"nv_inference_compute_infer_duration_us",
     "Cumulative compute inference duration in microseconds", kInferNs, 1000},
    {"nv_inference_compute_output_duration_us",
     "Cumulative inference compute output duration in microseconds", kOutputNs, 1000},
    {"input_byte_size_counter", "Cumulative input byte size of all requests answered by the model",
     kInputBytes},
};

void append_families(std::string& out, const Catalog& catalog) {
  for (const Family& f : kFamilies) {
    append_header(out, f.name, f.help, "counter");
    for_each_version(catalog, [&](const Version& v) {
      fmt::format_to(std::back_inserter(out), "{}{{model=\"{}\",version=\"{}\"}} {}\n", f.name,
                     label(v.model), v.number, v.statistics.counts.sum(f.count) / f.divisor);
    });
  }
}

void append_failures(std::string& out, const Catalog& catalog) {
  const char* name = "nv_inference_request_failure";
  append_header(out, name, "Number of failed inference requests", "counter");
  constexpr std::pair<const char*, Count> kReasons[] = {
      {"REJECTED", kRejected}, {"BACKEND", kFailedModel}, {"OTHER", kFailedRequest}};
  for_each_version(catalog, [&](const Version& v) {
    for (const auto& [reason, count] : kReasons)
      fmt::format_to(std::back_inserter(out),
                     "{}{{model=\"{}\",reason=\"{}\",version=\"{}\"}} {}\n", name, label(v.model),
                     reason, v.number, v.statistics.counts.sum(count));
  });
}

void append_http(std::string& out, const HttpStatistics& http) {
  append_header(out, "fluxion_http_responses_total", "HTTP responses by status", "counter");
  for (int status = kLowestStatus; status <= kHighestStatus; ++status)
    if (const uint64_t n = http.responses.sum(status - kLowestStatus))
      fmt::format_to(std::back_inserter(out), "fluxion_http_responses_total{{code=\"{}\"}} {}\n",
                     status, n);
  constexpr std::pair<const char*, const char*> kTotals[] = {
      {"fluxion_http_received_bytes_total", "Bytes of request bodies"},
      {"fluxion_http_sent_bytes_total", "Bytes of response bodies"},
      {"fluxion_http_connections_total", "Connections accepted"}};
  for (int i = 0; i < 3; ++i) {
    append_header(out, kTotals[i].first, kTotals[i].second, "counter");
    fmt::format_to(std::back_inserter(out), "{} {}\n", kTotals[i].first, http.totals.sum(i));
  }
  append_header(out, "fluxion_http_open_connections", "Connections open now", "gauge");
  fmt::format_to(std::back_inserter(out), "fluxion_http_open_connections {}\n",
                 http.open_connections.load(std::memory_order_relaxed));
}

}  // namespace

Response metrics(Context& c) {
  Response r;
  r.content_type = "text/plain; version=0.0.4; charset=utf-8";
  append_families(r.body, c.catalog);
  append_failures(r.body, c.catalog);
  append_http(r.body, c.http);
  return r;
}

}  // namespace fluxion::serve
