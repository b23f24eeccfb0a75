package mews.client;

import java.util.List;

/** Scores, one a row in order, and who answered: one version for each request that the rows were sent in. */
public final class Prediction {
    private final float[] scores;
    private final List<String> versions;
    private final String model;

    Prediction(float[] scores, List<String> versions, String model) {
        this.scores = scores;
        this.versions = List.copyOf(versions);
        this.model = model;
    }

    /** One score for each row. */
    public float[] scores() {
        return scores.clone();
    }

    /** The version of the model that answered, once for each request; empty for no rows. */
    public List<String> versions() {
        return versions;
    }

    /** The model that answered: the one that was asked, or its candidate. */
    public String model() {
        return model;
    }
}
