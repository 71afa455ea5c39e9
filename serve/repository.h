// The models of a directory, name/version/*.fluxion, as immutable catalogs that requests read.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "serve/model.h"
#include "serve/statistics.h"

namespace fluxion::serve {

/// One loaded version; shared by every catalog that lists it and by the requests that run it.
struct Version {
  std::string model;
  int64_t number = 0;
  std::shared_ptr<const Model> loaded;
  std::string fingerprint;  // names, sizes and times of its files when it was loaded
  mutable Statistics statistics;
};

struct Entry {
  std::map<int64_t, std::shared_ptr<const Version>> versions;  // served; the last is the default
  std::map<int64_t, std::string> faults;  // why a version could not be loaded, or is not up to date
  bool unloaded = false;                  // by request: polling leaves it alone
};

struct Catalog {
  uint64_t generation = 0;
  std::map<std::string, Entry, std::less<>> models;

  /// `version` empty: the newest. Raises HttpError 404.
  const Version& find(std::string_view model, std::string_view version) const;
  const Entry* entry(std::string_view model) const;
};

class Repository {
 public:
  using Log = std::function<void(std::string_view line)>;

  /// Loads every model found; what cannot be loaded is logged and listed with its reason. Raises
  /// ErrorKind::io if `root` is not a directory.
  Repository(std::filesystem::path root, ModelLoader loader, Log log = {});

  /// The present catalog: a short lock. Requests go through CatalogView, which takes it only after
  /// a change.
  std::shared_ptr<const Catalog> catalog() const;
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  /// Loads models and versions that are new or whose files changed. What vanished from the
  /// directory stays served until it is unloaded; what fails to load leaves the old version in
  /// place.
  void poll();
  /// The same for one model, also an unloaded one. Raises ErrorKind::io if it, or one of its
  /// versions, cannot be loaded.
  void load(std::string_view model);
  /// Requests in flight end undisturbed. An unknown model is no error.
  void unload(std::string_view model);

 private:
  Entry refreshed(const std::string& model, const Entry& old, bool* changed) const;
  void refresh_version(const std::string& model, int64_t number, const std::filesystem::path& dir,
                       Entry& entry, bool* changed) const;
  void publish(std::shared_ptr<Catalog> next);
  void log(const std::string& line) const;

  const std::filesystem::path root_;
  const ModelLoader loader_;
  const Log log_;
  std::mutex changing_;          // one change at a time; held while models load
  mutable std::mutex exchange_;  // guards current_
  std::shared_ptr<const Catalog> current_;
  std::atomic<uint64_t> generation_{0};
};

/// One thread's hold on the present catalog: reading it costs one atomic load.
class CatalogView {
 public:
  explicit CatalogView(const Repository& repository)
      : repository_(repository), held_(repository.catalog()) {}
  const std::shared_ptr<const Catalog>& current() {
    if (held_->generation != repository_.generation()) held_ = repository_.catalog();
    return held_;
  }

 private:
  const Repository& repository_;
  std::shared_ptr<const Catalog> held_;
};

}  // namespace fluxion::serve
