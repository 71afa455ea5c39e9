// Work that no other Python thread may see half done.
#pragma once

namespace fluxion {

/// While one lives, long work of this thread is not announced: the Python binding keeps the GIL.
class Uninterrupted {
 public:
  Uninterrupted() { ++depth; }
  ~Uninterrupted() { --depth; }
  Uninterrupted(const Uninterrupted&) = delete;
  Uninterrupted& operator=(const Uninterrupted&) = delete;

  static bool active() { return depth != 0; }

 private:
  static inline thread_local constinit int depth = 0;
};

}  // namespace fluxion
