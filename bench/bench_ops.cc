// Google Benchmark over every operation and ISA of this CPU. The time column is the mean of all
// samples; the counters are computed from the median of the clean ones (bench/measure.h).
#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

extern "C" {
#include "bench/arena.h"
#include "bench/cases.h"
#include "bench/measure.h"
#include "dispatch/isa.h"
#include "dispatch/threads.h"
}

namespace
{

constexpr size_t READ_EVERY = 16; // reading takes longer than many an operation

using Maker = bench_case *(*)(const xf_context *, const std::vector<size_t> &);

struct Registration {
  std::string name;
  Maker make;
  std::vector<size_t> arguments;
  bool small; // small enough for the scalar kernels, which are a definition and no rival
};

const xf_context *context_of(const xf_kernels *kernels, uint32_t threads)
{
  static std::map<std::pair<const xf_kernels *, uint32_t>, xf_context *> contexts;
  xf_context *&context = contexts[{kernels, threads}];
  if (context) return context;
  xf_context_options options = {};
  options.struct_size = sizeof options;
  options.isa = kernels->name;
  options.threads = threads;
  xf_error error;
  if (xf_context_create(&options, &context, &error)) std::fprintf(stderr, "%s\n", error.message);
  return context;
}

void report(benchmark::State &state, const bench_case &c, const summary &s)
{
  if (c.flops > 0) {
    state.counters["GFLOPS"] = c.flops / s.seconds * 1e-9;
    state.counters["peak_GFLOPS"] = s.fma * 1e-9;
    state.counters["pct_peak"] = 100 * c.flops / s.seconds / s.fma;
  }
  if (c.bytes > 0) state.counters["GBps"] = c.bytes / s.seconds * 1e-9;
  if (c.cold) {
    state.counters["read_GBps"] = s.read * 1e-9;
    state.counters["pct_bandwidth"] = 100 * c.bytes / s.seconds / s.read;
  }
  state.counters["median_us"] = s.seconds * 1e6;
  state.counters["clean"] = static_cast<double>(s.clean);
  state.counters["samples"] = static_cast<double>(s.samples);
}

void run(benchmark::State &state, const xf_kernels *kernels, uint32_t threads, Maker make,
         const std::vector<size_t> &arguments)
{
  const xf_context *context = context_of(kernels, threads);
  bench_case *c = context ? make(context, arguments) : nullptr;
  if (!c) {
    state.SkipWithError(context ? "out of memory" : "no context");
    return;
  }
  std::vector<sample> samples;
  c->run(c); // touches all memory once
  for (auto _ : state) {
    const bool with_read = c->cold && samples.size() % READ_EVERY == 0;
    const double last_read = samples.empty() ? 0 : samples.back().read;
    samples.push_back(measure(context, with_read, c->run, c));
    if (!with_read) samples.back().read = last_read;
    state.SetIterationTime(samples.back().seconds);
  }
  report(state, *c, summarise(samples.data(), samples.size()));
  c->free(c);
}

bench_case *make_linear(const xf_context *context, const std::vector<size_t> &a)
{
  return linear_case(context, static_cast<xf_type>(a[0]), a[1], a[2], a[3]);
}

bench_case *make_prefill(const xf_context *context, const std::vector<size_t> &a)
{
  return attention_case(context, a[0], a[0], false);
}

bench_case *make_decode(const xf_context *context, const std::vector<size_t> &a)
{
  return attention_case(context, 1, a[0], true);
}

bench_case *make_elementwise(const xf_context *context, const std::vector<size_t> &a)
{
  return elementwise_case(context, static_cast<elementwise>(a[0]), a[1]);
}

void add_linear(std::vector<Registration> &list)
{
  const std::pair<const char *, xf_type> types[] = {
      {"f32", XF_F32}, {"bf16", XF_BF16}, {"f16", XF_F16}};
  const size_t qkv = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM;
  const std::pair<size_t, size_t> shapes[] = {{qkv, HIDDEN}, {HIDDEN, INTERMEDIATE}};
  for (auto [type_name, type] : types)
    for (auto [n, k] : shapes)
      for (size_t rows : {1, 8, 64, 512}) {
        std::string name = std::string("linear/") + type_name + "/" + std::to_string(n) + "x" +
                           std::to_string(k) + "/rows:" + std::to_string(rows);
        list.push_back({name, make_linear, {static_cast<size_t>(type), rows, n, k}, rows <= 8});
      }
}

std::vector<Registration> all_registrations()
{
  std::vector<Registration> list;
  for (size_t n : {64, 128, 256, 512, 1024, 2048})
    list.push_back({"prefill/seq_len:" + std::to_string(n), make_prefill, {n}, n <= 256});
  for (size_t n : {512, 1024, 2048, 4096, 8192})
    list.push_back({"decode/kv_len:" + std::to_string(n), make_decode, {n}, n <= 512});
  add_linear(list);
  const std::pair<const char *, elementwise> rows[] = {
      {"rms_norm", RMS_NORM}, {"rope", ROPE}, {"silu_mul", SILU_MUL}};
  for (auto [name, what] : rows)
    list.push_back(
        {std::string(name) + "/rows:16", make_elementwise, {static_cast<size_t>(what), 16}, true});
  return list;
}

void register_all(const xf_isa &isa, bool is_scalar)
{
  const uint32_t most = xf_default_threads();
  for (const Registration &r : all_registrations()) {
    if (is_scalar && !r.small) continue;
    for (uint32_t threads : {1u, most}) {
      const std::string name =
          r.name + "/" + isa.kernels->name + "/threads:" + std::to_string(threads);
      const xf_kernels *kernels = isa.kernels;
      benchmark::RegisterBenchmark(
          name.c_str(),
          [=](benchmark::State &state) { run(state, kernels, threads, r.make, r.arguments); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
      if (most == 1 || r.make == make_elementwise) break;
    }
  }
}

} // namespace

int main(int argc, char **argv)
{
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  if (!arena_open()) {
    std::fprintf(stderr, "out of memory for the benchmarks' data\n");
    return 1;
  }
  for (size_t i = 0; i < xf_isa_count; i++)
    if (xf_isas[i].supported()) register_all(xf_isas[i], i + 1 == xf_isa_count);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  arena_close();
  return 0;
}
