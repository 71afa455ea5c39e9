// A model as one file: state by dotted name, graphs, signatures; a safetensors file that every reader opens.
//
//   encoder.weight ...            state: parameters, buffers, optimizer state, counters
//   __fx.graph, __fx.locs (U8)    FlatBuffers of io/graph.fbs; the source lines may be dropped
//   __fx.const.N                  big constants of graphs
//   __fx.pad.N (U8)               zeros that align every tensor to 64 bytes
//   __metadata__                  fx.format, fx.min_reader, fx.producer, fx.tied.NAME (the state it is one tensor with),
//                                 fx.signatures (JSON for people and tools; readers go by the graph), and the user's own
#pragma once

#include "io/graph_file.h"
#include "io/safetensors.h"

namespace fluxion::io {

struct Model {
  Signatures signatures;
  std::map<std::string, Tensor> state;
  Metadata metadata;  // the user's: a license, a card; "doc.NAME" describes a signature
};

/// The file as of now. Slots of that name that hold state must hold the same tensor in all signatures and in `state`. Raises
/// ErrorKind::value otherwise, and for names and keys that begin with "__fx." or "fx.".
FileImage model_image(const Model& model);
/// model_image(model).write(path).
void save_model(const std::string& path, const Model& model);

/// Verifies everything before use; state and constants alias the file's memory. Slots of one name share one tensor.
/// Raises IoError, or another Error that says what is wrong with the file.
Model load_model(const std::string& path, Reading how = Reading::mapped);
/// The same of bytes in memory; `name` stands for them in errors.
Model parse_model(const Ref<Storage>& bytes, std::string_view name);

/// Other weights for the same graphs: the tensors of another file take the place of all state. Programs made of the
/// graphs before go on with the old state. Raises if a name is missing or of another type; the model then stays as it was.
void load_state(Model& model, const std::string& path, Reading how = Reading::mapped);

}  // namespace fluxion::io
