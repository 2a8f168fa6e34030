/** A streamed chat completion of exactly `maxTokens` tokens, greedy, whatever server it goes to. */
export function chatBody(model: string, prompt: string, maxTokens: number): Record<string, unknown> {
  return {
    model,
    messages: [{ role: "user", content: prompt }],
    max_tokens: maxTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  };
}
