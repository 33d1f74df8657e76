/** The child's side of worker_process.ts: a process of its own that does what it is asked, one question at a time or many. */
export type Handlers = Record<string, (args: never) => Promise<unknown>>;

/** Answers the parent's questions, and ends when the parent is gone. */
export function answerParent(handlers: Handlers): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', ({ id, ask, args }: { id: number; ask: string; args: unknown }) => {
    const handler = handlers[ask] as ((args: unknown) => Promise<unknown>) | undefined;
    const answer = handler ? handler(args) : Promise.reject(new Error(`this worker has no ${ask}`));
    answer.then(
      (result) => process.send?.({ id, result }),
      (err: unknown) => process.send?.({ id, error: err instanceof Error ? (err.stack ?? err.message) : String(err) }),
    );
  });
}
