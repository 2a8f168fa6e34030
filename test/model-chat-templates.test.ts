import { describe, expect, test } from "vitest";
import { packStrings } from "../dist/engine/packed-strings.js";
import { ChatTemplate } from "../dist/model/chat-template.js";
import type { ChatMessage } from "../dist/model/model.js";
import type { Vocabulary } from "../dist/model/vocabulary.js";

/** Templates in the manner of each family, with every part of Jinja that theirs use. */

const vocabulary: Vocabulary = {
  kind: "byte-level",
  preTokenizer: "gpt-2",
  tokens: packStrings(["<bos>", "<eos>"]),
  merges: packStrings([]),
  control: new Map(),
  userDefined: new Map(),
  stripsAfter: new Set(),
  stopIds: [1],
  bosId: 0,
  eosId: 1,
  addBos: true,
};

const render = (template: string, messages: readonly ChatMessage[]): string =>
  new ChatTemplate(template, vocabulary).render(messages);

const user = (content: string): ChatMessage => ({ role: "user", content });
const assistant = (content: string): ChatMessage => ({ role: "assistant", content });
const system = (content: string): ChatMessage => ({ role: "system", content });

/** Llama 3: a date, a system message taken from the front, optional tools, headers. */
const LLAMA_3 = `{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|header|>system\\n\\n" }}
{{- "Today: " + date_string + "\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|header|>' + message['role'] + '\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif message.role == "tool" %}
        {{- "<|header|>ipython\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant\\n\\n' }}
{%- endif %}`;

/** Qwen3: walks the messages backwards in a namespace, cuts thoughts out of earlier answers. */
const QWEN_3 = `{%- if tools %}
    {{- '<|start|>system\\n' }}
    {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|start|>system\\n' + messages[0].content + '<|end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|start|>' + message.role + '\\n' + content + '<|end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}`;

/** Gemma 3: the system message goes before the first user's, roles must alternate, content may be parts. */
const GEMMA_3 = `{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("turns must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start>model\n' }}{%- endif -%}`;

/** Mistral: filters, a loop that counts turns, the system message in the last user's turn. */
const MISTRAL = `{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("user and assistant take turns") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token }}
    {%- else %}
        {{- raise_exception("no such role") }}
    {%- endif %}
{%- endfor %}`;

const PHI_3 = `{% for message in messages %}
{%- set tag = message['role'] %}
{%- if tag in ['system', 'user', 'assistant'] %}
{{- '<|' + tag + '|>\n' + message['content'] + '<|end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{% else %}{{- eos_token }}{% endif %}`;

const talk = [system("Be brief."), user(" Hi "), assistant("Hello."), user("Why?")];

describe("templates in the manner of", () => {
  test("Llama 3", () => {
    const text = render(LLAMA_3, talk);
    expect(text.replace(/Today: \d\d \w+ \d{4}\n/, "Today: D\n")).toBe(
      "<bos><|header|>system\n\nToday: D\nBe brief.<|eot|><|header|>user\n\nHi<|eot|>" +
        "<|header|>assistant\n\nHello.<|eot|><|header|>user\n\nWhy?<|eot|><|header|>assistant\n\n",
    );
    expect(render(LLAMA_3, [user("a"), { role: "tool", content: "42" }])).toContain(
      "<|header|>ipython\n\n42<|eot|>",
    );
  });

  test("Qwen3", () => {
    const thoughtful = [...talk.slice(0, 2), assistant("<think>\nwell\n</think>\n\nHello."), talk[3]!];
    expect(render(QWEN_3, thoughtful)).toBe(
      "<|start|>system\nBe brief.<|end|>\n<|start|>user\n Hi <|end|>\n<|start|>assistant\nHello.<|end|>\n" +
        "<|start|>user\nWhy?<|end|>\n<|start|>assistant\n",
    );
  });

  test("Gemma 3", () => {
    expect(render(GEMMA_3, talk)).toBe(
      "<bos><start>user\nBe brief.\n\nHi<end>\n<start>model\nHello.<end>\n<start>user\nWhy?<end>\n<start>model\n",
    );
    expect(() => render(GEMMA_3, [user("a"), user("b")])).toThrowError(
      expect.objectContaining({
        code: "invalid_request",
        message: expect.stringMatching(/turns must alternate/),
      }) as Error,
    );
  });

  test("Mistral", () => {
    expect(render(MISTRAL, talk)).toBe("<bos>[INST]  Hi [/INST] Hello.<eos>[INST] Be brief.\n\nWhy?[/INST]");
    expect(() => render(MISTRAL, [user("a"), { role: "tool", content: "b" }])).toThrowError(
      expect.objectContaining({ code: "invalid_request" }) as Error,
    );
  });

  test("Phi-3", () => {
    expect(render(PHI_3, talk)).toBe(
      "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi <|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nWhy?<|end|>\n" +
        "<|assistant|>\n",
    );
  });
});
