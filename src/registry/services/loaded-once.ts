/**
 * Loads a module at the first call. Callers of the same moment get it in the order of their calls, which `import()` alone
 * does not promise: several ranks in one process would go on in any order. A failure is not kept.
 */
export function loadedOnce<Module>(load: () => Promise<Module>): () => Promise<Module> {
  let loading: Promise<Module> | undefined;
  return () => {
    loading ??= load().catch((error: unknown) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
}
