/** Order statistics, for the commands here. */
export * from "#streamserve/report/statistics.js";
