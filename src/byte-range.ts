/** A range of a file. */
export interface ByteRange {
  offset: number;
  length: number;
}
