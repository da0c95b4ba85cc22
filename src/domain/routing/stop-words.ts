/** English words that say nothing of what a text is about. Words of one letter count as such too. */
export const STOP_WORDS: ReadonlySet<string> = new Set(
  `about after again all also am an and any anything are as at be because been before being below between both but by can
  cannot could did do does doing don down during each either else etc ever every few for from further get give had has have
  having he hello her here hers him his how if in into is it its itself just kindly let like me might more most must my myself
  need no nor not now of off ok on once only or other our ours out over own per please same shall she should so some
  something such than thank thanks that the their theirs them then there these they this those through to too under until
  up us very via want wants was we were what when where whether which while who whom why will with within without would yes
  you your yours`.split(/\s+/),
);
