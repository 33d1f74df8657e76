/** Said to the user as it is, without a stack: what is wrong, and what to do. */
export class StartError extends Error {}
