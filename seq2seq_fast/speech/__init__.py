"""Speech in, text out: sound, spectra, transcripts with times, subtitles."""
