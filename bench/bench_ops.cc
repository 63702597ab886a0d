// Google Benchmark over every operation and ISA of this CPU. The time column is the mean of all
// samples; the counters are computed from the median of the clean ones (bench/measure.h). A last
// argument --seconds=S skips what has not begun after S seconds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

extern "C" {
#include "bench/arena.h"
#include "bench/attention_case.h"
#include "bench/cases.h"
#include "bench/measure.h"
#include "dispatch/isa.h"
#include "dispatch/threads.h"
}

namespace
{

constexpr size_t READ_EVERY = 16; // reading takes longer than many an operation
constexpr double LONG_FLOPS = 1e10;
constexpr ptrdiff_t LEAST_CLEAN = 3;
constexpr size_t MOST_EXTRA = 6; // samples where one takes long

double deadline = HUGE_VAL; // on clock_seconds(): no entry begins after it

using Maker = std::function<bench_case *(const xf_context *)>;

struct Registration {
  std::string name;
  Maker make;
  bool small;        // small enough for the scalar kernels, which are a definition and no rival
  bool one_thread;   // has no parallel loop
  bool variants;     // the variants of an ISA differ in it
  bool fast = false; // in fast mode
};

const xf_context *context_of(const xf_kernels *kernels, uint32_t threads, bool fast)
{
  static std::map<std::tuple<const xf_kernels *, uint32_t, bool>, xf_context *> contexts;
  xf_context *&context = contexts[{kernels, threads, fast}];
  if (context) return context;
  xf_context_options options = {};
  options.struct_size = sizeof options;
  options.isa = kernels->name;
  options.threads = threads;
  options.fast = fast;
  xf_error error;
  if (xf_context_create(&options, &context, &error)) std::fprintf(stderr, "%s\n", error.message);
  return context;
}

void report(benchmark::State &state, const bench_case &c, const summary &s)
{
  state.counters["GFLOPS"] = c.flops / s.seconds * 1e-9;
  state.counters["peak_GFLOPS"] = s.fma * 1e-9;
  if (c.dots) state.counters["dot_peak_GOPS"] = s.dot * 1e-9;
  state.counters["pct_peak"] = 100 * c.flops / s.seconds / (c.dots ? s.dot : s.fma);
  state.counters["GBps"] = c.bytes / s.seconds * 1e-9;
  state.counters["read_GBps"] = s.read * 1e-9;
  state.counters["pct_bandwidth"] = 100 * c.bytes / s.seconds / s.read;
  state.counters["flops_per_byte"] = c.flops / c.bytes;
  state.counters["median_us"] = s.seconds * 1e6;
  state.counters["clean"] = static_cast<double>(s.clean);
  state.counters["samples"] = static_cast<double>(s.samples);
}

void run(benchmark::State &state, const xf_kernels *kernels, uint32_t threads,
         const Registration &r)
{
  if (clock_seconds() > deadline) {
    state.SkipWithError("no time left");
    return;
  }
  const xf_context *context = context_of(kernels, threads, r.fast);
  bench_case *c = context ? r.make(context) : nullptr;
  if (!c) {
    state.SkipWithError(context ? "out of memory" : "no context");
    return;
  }
  std::vector<sample> samples;
  auto take = [&] {
    const bool with_read = c->cold && samples.size() % READ_EVERY == 0;
    const double last_read = samples.empty() ? 0 : samples.back().read;
    samples.push_back(measure(context, with_read, c->run, c));
    if (!with_read) samples.back().read = last_read;
  };
  if (c->flops < LONG_FLOPS) c->run(c); // wakes threads, fills caches
  for (auto _ : state) {
    take();
    state.SetIterationTime(samples.back().wall);
  }
  while (samples.size() < MOST_EXTRA &&
         std::count_if(samples.begin(), samples.end(),
                       [](const sample &s) { return sample_is_clean(&s); }) < LEAST_CLEAN)
    take();
  if (!c->cold) { // reading before a sample would have emptied the caches
    const double read = read_rate(context);
    for (sample &each : samples) each.read = read;
  }
  report(state, *c, summarise(samples.data(), samples.size()));
  c->free(c);
}

std::string attention_name(const char *op, const attention_shape &s)
{
  const std::string queries = std::to_string(s.q_len), keys = std::to_string(s.kv_len);
  const std::string shape =
      s.cold ? "kv_len:" + keys + "/queries:" + queries : "seq_len:" + queries;
  return std::string(op) + "/" + shape + "/head_dim:" + std::to_string(s.head_dim) + "/" +
         (s.packed ? "packed" : "plain") + "/" + xf_type_name(s.type);
}

void add_attention(std::vector<Registration> &list, const char *op, const attention_shape &shape)
{
  list.push_back({attention_name(op, shape),
                  [shape](const xf_context *context) { return attention_case(context, &shape); },
                  shape.cold ? shape.q_len == 1 && shape.kv_len <= 512 : shape.q_len <= 256, false,
                  false});
}

void add_prefill(std::vector<Registration> &list)
{
  for (size_t n = 16; n <= 8192; n *= 2) {
    for (size_t d : {64, 128})
      for (bool packed : {true, false})
        add_attention(list, "prefill", {n, n, d, XF_F32, packed, false, false});
    if (n <= 4096) // 8,192 would need 8.6 GB of scores
      add_attention(list, "standard", {n, n, HEAD_DIM, XF_F32, true, true, false});
  }
}

void add_decode(std::vector<Registration> &list)
{
  constexpr size_t chunk_kv_len = 8192;
  for (size_t n = 512; n <= 32768; n *= 2)
    for (size_t queries = 1; queries <= (n == chunk_kv_len ? 16 : 1); queries *= 2) {
      for (bool packed : {true, false})
        for (xf_type type : {XF_F32, XF_BF16, XF_F16, XF_I8})
          add_attention(list, "decode", {queries, n, HEAD_DIM, type, packed, false, true});
    }
}

void add_linear(std::vector<Registration> &list)
{
  const size_t qkv = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM;
  const std::pair<size_t, size_t> shapes[] = {{qkv, HIDDEN}, {HIDDEN, INTERMEDIATE}};
  auto add = [&](xf_type type, size_t n, size_t k, size_t rows, bool fast) {
    list.push_back(
        {std::string(fast ? "fast/" : "linear/") + xf_type_name(type) + "/" + std::to_string(n) +
             "x" + std::to_string(k) + "/rows:" + std::to_string(rows),
         [=](const xf_context *context) { return linear_case(context, type, rows, n, k); },
         rows <= 8, false, false, fast});
  };
  for (auto [n, k] : shapes)
    for (size_t rows : {1, 8, 64, 512}) {
      for (xf_type type : {XF_F32, XF_BF16, XF_F16}) add(type, n, k, rows, false);
      add(XF_BF16, n, k, rows, true);
    }
}

void add_quant(std::vector<Registration> &list)
{
  for (xf_type type :
       {XF_I8_ROW, XF_Q8_0, XF_Q4_0, XF_Q4_1, XF_Q5_0, XF_Q5_1, XF_Q4_K, XF_Q5_K, XF_Q6_K})
    for (size_t rows : {1, 512})
      list.push_back({std::string("quant/") + xf_type_name(type) + "/" +
                          std::to_string(INTERMEDIATE) + "x" + std::to_string(HIDDEN) +
                          "/rows:" + std::to_string(rows),
                      [=](const xf_context *context) {
                        return linear_case(context, type, rows, INTERMEDIATE, HIDDEN);
                      },
                      false, false, true});
}

void add_elementwise(std::vector<Registration> &list)
{
  constexpr size_t rows = 16;
  for (elementwise what : {RMS_NORM, ROPE, SILU_MUL})
    list.push_back(
        {std::string("elementwise/") + elementwise_name(what) + "/rows:" + std::to_string(rows),
         [what](const xf_context *context) { return elementwise_case(context, what, rows); }, true,
         true, false});
}

void register_one(const Registration &r, const xf_kernels *kernels)
{
  const uint32_t most = xf_default_threads();
  for (uint32_t threads : {1u, most}) {
    const std::string name = r.name + "/" + kernels->name + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [=](benchmark::State &state) { run(state, kernels, threads, r); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
    if (most == 1 || r.one_thread) break;
  }
}

// Whether the next row of the list has the same float kernels: its name is the family's.
bool is_variant(size_t i)
{
  return i + 1 < xf_isa_count &&
         xf_isas[i].kernels->linear_f32 == xf_isas[i + 1].kernels->linear_f32;
}

// Whether it is worth a row: the next one of the list would run other kernels, and there are some.
bool is_worth(const Registration &r, size_t i)
{
  if (!xf_isas[i].supported()) return false;
  const bool last = i + 1 == xf_isa_count;
  if (r.fast) {
    const xf_fast_kernels *fast = xf_isa_fast(xf_isas[i].kernels);
    return fast && (last || fast != xf_isa_fast(xf_isas[i + 1].kernels));
  }
  return (r.variants || !is_variant(i)) && (r.small || !last);
}

// Shape by shape, on all ISAs each, so that a limit of time leaves out the longest.
void register_all()
{
  std::vector<Registration> list;
  for (auto add : {add_prefill, add_decode, add_linear, add_quant, add_elementwise}) add(list);
  for (const Registration &r : list)
    for (size_t i = 0; i < xf_isa_count; i++)
      if (is_worth(r, i)) register_one(r, xf_isas[i].kernels);
}

} // namespace

int main(int argc, char **argv)
{
  benchmark::Initialize(&argc, argv);
  const std::string limit = "--seconds=", last = argc > 1 ? argv[argc - 1] : "";
  if (last.compare(0, limit.size(), limit) == 0) {
    deadline = clock_seconds() + std::atof(last.c_str() + limit.size());
    argc--;
  }
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  if (!arena_open()) {
    std::fprintf(stderr, "out of memory for the benchmarks' data\n");
    return 1;
  }
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  arena_close();
  return 0;
}
