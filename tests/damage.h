/* Damages a file in place, over and over, and lets a test look at it each time. */
#ifndef XF_TESTS_DAMAGE_H
#define XF_TESTS_DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Tries to read what was damaged: whether it was accepted. */
typedef bool (*damage_attempt)(void *arg);

/* Cuts the file to each shorter length in turn. Returns how many of these were accepted; the file
 * is whole again afterwards. */
size_t damage_prefixes(const char *path, damage_attempt attempt, void *arg);

/* Gives one random byte a random value, `times` times; half of the hits fall on the first `head`
 * bytes (0: no such preference). Returns how many were accepted; each byte is restored. */
size_t damage_bytes(const char *path, size_t head, size_t times, uint64_t seed,
                    damage_attempt attempt, void *arg);

#endif
