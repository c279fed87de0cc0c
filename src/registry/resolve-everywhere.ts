import type { DependencyContainer, InjectionToken } from "tsyringe";

/**
 * All that is registered under a token in a container and its parents, those of parents first. tsyringe's own
 * `resolveAll()` stops at the first container that has any, and throws if there is none.
 */
export function resolveEverywhere<T>(container: DependencyContainer, token: InjectionToken<T>): T[] {
  const found: T[][] = [];
  for (let each: Inner | undefined = container; each !== undefined; each = each.parent) {
    if (each.isRegistered(token)) found.unshift(each.resolveAll(token));
  }
  return found.flat();
}

/** tsyringe's type omits the parent. */
interface Inner extends DependencyContainer {
  readonly parent?: Inner;
}
