/** The project that made a bucket. */
export interface BucketProject {
  /** Null: a folder that no request made. Only administrators reach it. */
  project_id: string | null;
  /** When that project was made; absent in buckets that were made before this was kept. */
  project_created_at?: string;
}

/**
 * Whether a bucket belongs to the project of this name that was made then. A project's name may be given again after it was
 * deleted, and its buckets stay behind: the next project of that name must not have them.
 */
export const isOwner = (owner: BucketProject, project_id: string | null, project_created_at: string | null): boolean =>
  owner.project_id !== null &&
  owner.project_id === project_id &&
  (owner.project_created_at === undefined || owner.project_created_at === project_created_at);
