/** Name of the default group, the first that a process joins, also before there is one. The dashboard's page imports it. */
export const DEFAULT_GROUP = "0";
