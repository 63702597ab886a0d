#include "dispatch/threads.h"

#include <cpuinfo.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/memory.h"

/* A logical CPU of that core that the mask allows; −1: none. */
static int allowed_cpu(const struct cpuinfo_core *core, const cpu_set_t *allowed)
{
  for (uint32_t i = 0; i < core->processor_count; i++) {
    int cpu = cpuinfo_get_processor(core->processor_start + i)->linux_id;
    if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, allowed)) return cpu;
  }
  return -1;
}

/* One logical CPU of each core that the process may use; returns their number, 0 where that cannot
 * be told. */
static uint32_t allowed_cores(int cpus[CPU_SETSIZE])
{
  cpu_set_t allowed;
  if (!cpuinfo_initialize() || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  uint32_t cores = 0;
  for (uint32_t i = 0; i < cpuinfo_get_cores_count() && cores < CPU_SETSIZE; i++) {
    int cpu = allowed_cpu(cpuinfo_get_core(i), &allowed);
    if (cpu >= 0) cpus[cores++] = cpu;
  }
  for (int cpu = 0; cpu < CPU_SETSIZE && cores == 0; cpu++) /* cores that cpuinfo does not know */
    if (CPU_ISSET(cpu, &allowed)) cpus[cores++] = cpu;
  return cores;
}

void xf_pin_thread(size_t index)
{
  int cpus[CPU_SETSIZE];
  uint32_t cores = allowed_cores(cpus);
  if (cores == 0) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpus[index % cores], &one);
  sched_setaffinity(0, sizeof one, &one);
}

/* CPUs that a cpu.max file grants ("max 100000" or "150000 100000"), rounded up; 0: no limit. */
static uint32_t quota_of(const char *folder)
{
  char path[4096];
  snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  unsigned long quota = 0, period = 0;
  int fields = fscanf(file, "%lu %lu", &quota, &period);
  fclose(file);
  if (fields != 2 || quota == 0 || period == 0) return 0;
  return (uint32_t)((quota + period - 1) / period);
}

/* The least quota of the process's cgroup (version 2) and those above it; 0: no limit. */
static uint32_t cgroup_quota(void)
{
  char folder[2048] = "";
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (!file) return 0;
  for (char line[2048]; fgets(line, sizeof line, file);)
    if (strncmp(line, "0::", 3) == 0) snprintf(folder, sizeof folder, "%s", line + 3);
  fclose(file);
  folder[strcspn(folder, "\n")] = '\0';
  if (strcmp(folder, "/") == 0) folder[0] = '\0';
  uint32_t least = 0;
  for (;;) {
    uint32_t quota = quota_of(folder);
    if (quota && (!least || quota < least)) least = quota;
    char *slash = strrchr(folder, '/');
    if (!slash) return least;
    *slash = '\0';
  }
}

uint32_t xf_default_threads(void)
{
  int cpus[CPU_SETSIZE];
  uint32_t threads = allowed_cores(cpus), quota = cgroup_quota();
  if (quota && quota < threads) threads = quota;
  return threads ? threads : 1;
}
