import type { DependencyContainer, InjectionToken } from "tsyringe";

/**
 * All that is registered under a token in a container and in those it was made from, those of parents first. tsyringe's own
 * `resolveAll()` stops at the first container that has any, and throws where there is none.
 */
export function resolveEverywhere<T>(container: DependencyContainer, token: InjectionToken<T>): T[] {
  const found: T[][] = [];
  for (let each: Inner | undefined = container; each !== undefined; each = each.parent) {
    if (each.isRegistered(token)) found.unshift(each.resolveAll(token));
  }
  return found.flat();
}

/** tsyringe's type leaves the parent out. */
interface Inner extends DependencyContainer {
  readonly parent?: Inner;
}
