#include "serve/repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <vector>

#include "serve/http.h"

namespace fluxion::serve {

namespace fs = std::filesystem;

namespace {

/// 1, 2, 10; not 01, 1a or what exceeds int64. -1 if it is none.
int64_t version_number(std::string_view text) {
  int64_t n = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return -1;
  return n < 0 || (text.size() > 1 && text[0] == '0') ? -1 : n;
}

/// A name that is one entry of the directory.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name[0] != '.' && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

/// Empty if there is no *.fluxion.
std::string fingerprint_of(const fs::path& dir) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".fluxion") continue;
    std::error_code gone;
    const auto size = it->file_size(gone);
    const auto time = it->last_write_time(gone).time_since_epoch().count();
    if (!gone) files.push_back(fmt::format("{} {} {}", it->path().filename().native(), size, time));
  }
  std::sort(files.begin(), files.end());
  return fmt::format("{}", fmt::join(files, "\n"));
}

std::vector<fs::path> folders_in(const fs::path& dir) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (it->is_directory(gone)) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

const Entry* Catalog::entry(std::string_view model) const {
  const auto it = models.find(model);
  return it == models.end() ? nullptr : &it->second;
}

const Version& Catalog::find(std::string_view model, std::string_view version) const {
  const Entry* e = entry(model);
  if (!e) fail_http(404, "Request for unknown model: '{}' is not found", model);
  if (version.empty()) {
    if (e->versions.empty())
      fail_http(404, "Request for unknown model: '{}' has no available versions", model);
    return *e->versions.rbegin()->second;
  }
  const auto it = e->versions.find(version_number(version));
  if (it == e->versions.end())
    fail_http(404, "Request for unknown model: '{}' version {} is not found", model, version);
  return *it->second;
}

Repository::Repository(fs::path root, ModelLoader loader, Log log)
    : root_(std::move(root)), loader_(std::move(loader)), log_(std::move(log)) {
  std::error_code error;
  if (!fs::is_directory(root_, error))
    fail(ErrorKind::io, "serve: the model directory '{}' {}", root_.native(),
         fs::exists(root_, error) ? "is not a directory" : "does not exist");
  current_ = std::make_shared<const Catalog>();
  poll();
}

std::shared_ptr<const Catalog> Repository::catalog() const {
  const std::lock_guard lock(exchange_);
  return current_;
}

void Repository::publish(std::shared_ptr<Catalog> next) {
  const uint64_t generation = ++next->generation;
  std::shared_ptr<const Catalog> old;  // destroyed after the lock
  {
    const std::lock_guard lock(exchange_);
    old = std::exchange(current_, std::move(next));
  }
  generation_.store(generation, std::memory_order_release);
}

void Repository::log(const std::string& line) const {
  if (log_) log_(line);
}

void Repository::refresh_version(const std::string& model, int64_t number, const fs::path& dir,
                                 Entry& entry, bool* changed) const {
  const std::string fingerprint = fingerprint_of(dir);
  const auto served = entry.versions.find(number);
  const bool present = served != entry.versions.end();
  std::error_code error;
  if (fingerprint.empty() && (present || !fs::exists(dir, error))) return;
  if (present && served->second->fingerprint == fingerprint) {
    *changed |= entry.faults.erase(number) != 0;
    return;
  }
  std::string fault;
  try {
    if (fingerprint.empty())
      fail(ErrorKind::io, "'{}' holds no file named *.fluxion", dir.native());
    auto version = std::make_shared<Version>();
    version->model = model;
    version->number = number;
    version->fingerprint = fingerprint;
    version->loaded = loader_(dir);
    if (!version->loaded || version->loaded->signatures().empty())
      fail(ErrorKind::value, "'{}' has no signature to serve", dir.native());
    entry.versions[number] = std::move(version);
    entry.faults.erase(number);
    *changed = true;
    return log(fmt::format("model '{}' version {} {}", model, number,
                           present ? "was replaced" : "is ready"));
  } catch (const std::exception& e) {
    fault = e.what();
  }
  std::string& known = entry.faults[number];
  if (known == fault) return;
  known = fault;
  *changed = true;
  log(fmt::format("model '{}' version {} cannot be loaded{}: {}", model, number,
                  present ? " anew, the old one stays" : "", fault));
}

Entry Repository::refreshed(const std::string& model, const Entry& old, bool* changed) const {
  Entry entry = old;
  entry.unloaded = false;
  std::set<int64_t> seen;
  for (const fs::path& dir : folders_in(root_ / model)) {
    const int64_t number = version_number(dir.filename().native());
    if (number < 0) continue;
    seen.insert(number);
    refresh_version(model, number, dir, entry, changed);
  }
  // A fault belongs to a folder, or to a version that is still served.
  *changed |= std::erase_if(entry.faults, [&](const auto& fault) {
                return !seen.contains(fault.first) && !entry.versions.contains(fault.first);
              }) != 0;
  return entry;
}

void Repository::poll() {
  const std::lock_guard lock(changing_);
  auto next = std::make_shared<Catalog>(*catalog());
  bool changed = false;
  std::set<std::string, std::less<>> seen;
  for (const fs::path& dir : folders_in(root_)) {
    const std::string model = dir.filename();
    seen.insert(model);
    const Entry* old = next->entry(model);
    if (!is_plain_name(model) || (old && old->unloaded)) continue;
    Entry entry = refreshed(model, old ? *old : Entry{}, &changed);
    if (old || !entry.versions.empty() || !entry.faults.empty())
      next->models[model] = std::move(entry);
  }
  // A model that never loaded goes with its folder.
  changed |= std::erase_if(next->models, [&](const auto& m) {
               return m.second.versions.empty() && !m.second.unloaded && !seen.contains(m.first);
             }) != 0;
  if (changed) publish(std::move(next));
}

void Repository::load(std::string_view name) {
  const std::string model(name);
  const std::lock_guard lock(changing_);
  auto next = std::make_shared<Catalog>(*catalog());
  const Entry* old = next->entry(model);
  bool changed = old && old->unloaded;
  std::error_code error;
  const bool exists = is_plain_name(model) && fs::is_directory(root_ / model, error);
  Entry entry = exists ? refreshed(model, old ? *old : Entry{}, &changed) : Entry{};
  if (!exists || (entry.versions.empty() && entry.faults.empty()))
    fail(ErrorKind::io, "failed to load '{}', failed to poll from model repository", model);
  const auto faults = entry.faults;
  next->models[model] = std::move(entry);
  if (changed) publish(std::move(next));
  if (!faults.empty())
    fail(ErrorKind::io, "failed to load '{}': version {}: {}", model, faults.begin()->first,
         faults.begin()->second);
}

void Repository::unload(std::string_view model) {
  const std::lock_guard lock(changing_);
  auto next = std::make_shared<Catalog>(*catalog());
  const auto it = next->models.find(model);
  if (it == next->models.end() || it->second.unloaded) return;
  it->second = Entry{.versions = {}, .faults = {}, .unloaded = true};
  publish(std::move(next));
  log(fmt::format("model '{}' is unloaded", model));
}

}  // namespace fluxion::serve
