/* exactflash verify: two ways to the same result, compared. */
#include "cli/verify.h"

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"

enum kind { FLASH, CONVERTED, BITS }; /* operand's words */

static int kind = -1;
static struct xf_cli_list prompts;
static uint64_t most = 50;
static const char *converted, *checkpoint;
static int json, quick;

static const struct xf_cli_option operand = {
    "what to verify", NULL, "flash|converted|bits", NULL, XF_CLI_CHOICE, &kind, 0, 0};

static const struct xf_cli_option options[] = {
    {"--prompts", "-p", "TEXT", "flash, converted: what to continue; may be repeated", XF_CLI_TEXTS,
     &prompts, 0, 0},
    {"--max-new-tokens", "-n", "N", "flash, converted: tokens to generate behind each",
     XF_CLI_COUNT, &most, 1, 1048576},
    {"--converted", NULL, "FILE", "converted: the file that convert wrote", XF_CLI_TEXT, &converted,
     0, 0},
    {"--checkpoint_path", NULL, "PATH", "converted: the checkpoint that it was made of",
     XF_CLI_TEXT, &checkpoint, 0, 0},
    {"--quick", NULL, NULL, "bits: three configurations of each instruction set", XF_CLI_SWITCH,
     &quick, 0, 0},
    {"--json", NULL, NULL, "print one object with all checks", XF_CLI_SWITCH, &json, 0, 0},
    {0}};

static const struct xf_cli_list usual_prompts = {
    {"Once upon a time", "The old king had three daughters", "In the middle of the forest"}, 3};

/* Whether what was given is what this kind takes; an exit code. */
static int check_usage(void)
{
  if (kind < 0) return xf_cli_misuse("verify", "say what to verify: flash, converted or bits");
  bool both = converted && checkpoint;
  if (kind == CONVERTED && !both)
    return xf_cli_misuse("verify", "verify converted needs --converted FILE and --checkpoint_path");
  if (kind != CONVERTED && (converted || checkpoint))
    return xf_cli_misuse("verify", "--converted and --checkpoint_path belong to verify converted");
  if (kind != BITS && quick) return xf_cli_misuse("verify", "--quick belongs to verify bits");
  if (kind == BITS && prompts.n)
    return xf_cli_misuse("verify", "verify bits has a fixed input; it takes no --prompts");
  return XF_CLI_OK;
}

static int run(void)
{
  int code = check_usage();
  if (code) return code;
  struct xf_cli_tries tries = {prompts.n ? &prompts : &usual_prompts, kind == FLASH, (size_t)most};
  struct xf_cli_checks checks;
  xf_cli_checks_begin(&checks, json);
  if (kind == FLASH)
    code = xf_cli_verify_flash(&tries, &checks);
  else if (kind == CONVERTED)
    code = xf_cli_verify_converted(converted, checkpoint, &tries, &checks);
  else
    code = xf_cli_verify_bits(quick, &checks);
  return xf_cli_checks_end(&checks, code);
}

const struct xf_cli_command xf_cli_verify = {
    .name = "verify",
    .summary = "compare attentions, a converted file with its checkpoint, or all instruction sets",
    .description =
        "verify flash: flash against standard attention. Logits of each prompt, of a long one "
        "made\n"
        "of the first, and of the tokens behind it differ by roundings only (more of them with a\n"
        "--cache-type of fewer bits), the generated text not at all; of 8- and 4-bit weights\n"
        "with f32 activations if --activations does not say otherwise.\n"
        "verify converted: a file against the checkpoint that it was made of. Logits are the same\n"
        "to the last bit where the file's type holds every weight, else within the tolerance of\n"
        "its type; the prompts become the same tokens.\n"
        "verify bits: a fixed input on every instruction set that this machine has, with 1, 2 and\n"
        "5 threads, prefilled at once and in chunks, alone and in a batch, with the keys split\n"
        "over threads and not: all must give the same bits. Prints their fingerprint, which is\n"
        "that of every other machine with the same model, cache type and numerics version; or\n"
        "what differs first. --isa and --threads narrow it down.\n"
        "Prints PASS or FAIL for each check; the exit status is 0 if all passed, else 1.",
    .examples = "  exactflash verify flash --prompts \"Once upon a time\" --max_new_tokens 50\n"
                "  exactflash verify converted --converted model_bf16_ekv1024.gguf "
                "--checkpoint_path model\n"
                "  exactflash verify bits -m model_bf16_ekv1024.gguf\n",
    .tables = {options, xf_cli_model_options, xf_cli_run_options + XF_CLI_CACHE_TYPE_ROW,
               xf_cli_machine_options + 1},
    .run = run,
    .operand = &operand};
