// Content encodings: gzip and deflate, with zlib.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fluxion::serve {

/// Raises HttpError: 501 for an unknown encoding, 413 beyond `limit` bytes, 400 for damaged data.
std::string decompress(std::string_view data, std::string_view encoding, uint64_t limit);

/// The encoding to answer with, "gzip" or "deflate", or null for none.
const char* accepted_encoding(std::string_view accept_encoding);
/// `encoding` as accepted_encoding gave it.
std::string compress(std::string_view data, std::string_view encoding);

}  // namespace fluxion::serve
