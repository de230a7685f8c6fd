mode => {
  // At first a radio says what it was built with; while its choices change, its value may be what it shows.
  if (bianque.greeted && ['auto', 'ask', 'advise'].includes(mode)) bianque.set('mode', mode);
  return [bianque.prefs.mode || 'auto'];
}
