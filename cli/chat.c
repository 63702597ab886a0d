/* exactflash chat: a conversation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/sampling.h"

static const char *system_text, *template, *session_path;
static uint64_t most = 1024;

static const struct xf_cli_option options[] = {
    {"--system", NULL, "TEXT", "what the model is told in front of the conversation", XF_CLI_TEXT,
     &system_text, 0, 0},
    {"--template", NULL, "NAME", "zephyr, chatml or llama-3 (default: as the model says)",
     XF_CLI_TEXT, &template, 0, 0},
    {"--session", NULL, "FILE", "go on with this file, if it is there; saved after each answer",
     XF_CLI_TEXT, &session_path, 0, 0},
    {"-n", "--max-tokens", "N", "most tokens of an answer; 0: no limit", XF_CLI_COUNT, &most, 0,
     2147483647},
    {0}};

/* The argument of a command, or NULL where the line is another one. */
static const char *argument_of(const char *line, const char *command)
{
  size_t n = strlen(command);
  if (strncmp(line, command, n) != 0 || (line[n] != ' ' && line[n] != '\0')) return NULL;
  return line + n + strspn(line + n, " ");
}

static int without_file(const char *command)
{
  return xf_cli_fail("%s needs the name of a file", command);
}

/* A line that begins with a slash; *end becomes 1 where it ends the conversation. */
static int obey(struct xf_cli_conversation *c, const char *line, int *end)
{
  const char *file;
  if (argument_of(line, "/exit")) {
    *end = 1;
    return XF_CLI_OK;
  }
  if ((file = argument_of(line, "/save")))
    return *file ? xf_cli_conversation_save(c, file) : without_file("/save");
  if ((file = argument_of(line, "/load")))
    return *file ? xf_cli_conversation_load(c, file) : without_file("/load");
  return xf_cli_fail("unknown command %s; there are /exit, /save FILE and /load FILE", line);
}

static int say(struct xf_cli_conversation *c, const char *line, size_t bytes, int *end)
{
  if (bytes == 0) return XF_CLI_OK;
  if (line[0] == '/') {
    char *command = strndup(line, bytes);
    int code = command ? obey(c, command, end) : xf_cli_fail("out of memory for the command");
    free(command);
    return code;
  }
  int code = xf_cli_conversation_turn(c, line, bytes);
  if (!code && session_path) code = xf_cli_conversation_save(c, session_path);
  return code;
}

/* A failed line is reported and the conversation goes on; the exit code of one that nobody watches
 * tells of it. */
static int talk(struct xf_cli_conversation *c)
{
  struct xf_cli_input input = {0};
  enum xf_cli_line kind = XF_CLI_LINE;
  const int terminal = isatty(STDIN_FILENO);
  int end = 0, failed = XF_CLI_OK, broken = XF_CLI_OK;
  while (!end && !broken && xf_cli_interrupted() == 0) {
    const char *line;
    size_t bytes;
    if (terminal) fputs("> ", stdout);
    broken = xf_cli_flush();
    kind = broken ? XF_CLI_LINE_FAILED : xf_cli_read_line(&input, &line, &bytes);
    if (kind == XF_CLI_LINE_END || kind == XF_CLI_LINE_FAILED) break;
    int code = kind == XF_CLI_LINE ? say(c, line, bytes, &end) : XF_CLI_OK;
    if (code == XF_CLI_FAILED) failed = code;
    if (terminal && kind == XF_CLI_LINE_SIGNAL) putchar('\n');
    xf_cli_interrupt_forget();
    broken = xf_cli_flush();
  }
  xf_cli_input_free(&input);
  if (terminal && kind == XF_CLI_LINE_END) putchar('\n');
  if (xf_cli_interrupted()) return XF_CLI_INTERRUPTED + xf_cli_interrupted();
  if (broken || kind == XF_CLI_LINE_FAILED) return XF_CLI_FAILED;
  return terminal ? xf_cli_flush() : failed;
}

static int converse(const struct xf_cli_session *session, const xf_tokenizer *tokenizer,
                    xf_chat_format format)
{
  struct xf_cli_conversation c;
  int code = xf_cli_conversation_begin(&c, session, tokenizer, format);
  c.most = (size_t)most;
  if (system_text) c.system = system_text;
  if (!code && session_path && access(session_path, F_OK) == 0) {
    code = xf_cli_conversation_load(&c, session_path);
    if (!code && system_text && c.n)
      xf_cli_note("%s: --system is left out: the conversation has begun already", session_path);
  }
  xf_cli_interrupt_live_on();
  if (!code) code = talk(&c);
  xf_cli_conversation_free(&c);
  return code;
}

static int run(void)
{
  xf_error error = {0};
  xf_chat_format format = 0;
  int code = xf_cli_sampling_check("chat");
  if (!code && template && xf_chat_format_from_name(template, &format, &error))
    code = xf_cli_misuse("chat", "--template takes zephyr, chatml or llama-3, not '%s'", template);
  if (code) return code;
  struct xf_cli_session session;
  code = xf_cli_session_open(&session);
  xf_tokenizer *tokenizer = NULL;
  if (!code && xf_tokenizer_open(session.path, &tokenizer, &error)) code = xf_cli_error(&error);
  if (!code) code = converse(&session, tokenizer, format);
  xf_tokenizer_close(tokenizer);
  xf_cli_session_close(&session);
  return code;
}

const struct xf_cli_command xf_cli_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .description =
        "A conversation: each line of standard input is said to the model, its answer printed.\n"
        "What was said stays in the cache (--ctx). Ctrl-C stops an answer, Ctrl-D or /exit ends.\n"
        "/save FILE keeps the conversation in a file, /load FILE goes on with it: the same words\n"
        "then have the same answers as if it had never stopped. The model must be made for chat;\n"
        "its template is recognised (zephyr, chatml, llama-3), or chosen with --template.",
    .examples = "  exactflash chat -m tinyllama\n"
                "  exactflash chat -m smollm2.gguf --system \"Answer briefly.\" --temp 0\n"
                "  exactflash chat -m tinyllama --session talk.session < questions.txt\n",
    .tables = {options, xf_cli_sampling_options, xf_cli_model_options, xf_cli_run_options,
               xf_cli_machine_options},
    .run = run};
